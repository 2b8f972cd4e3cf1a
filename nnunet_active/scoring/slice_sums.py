r"""How much is predicted in each slice of a case, and how difficult it is there: ASD's sums, slice by slice along every axis.

For the slice s of an axis, with y(v) the class predicted at voxel v and H(v) its entropy in nats:

* ``slice_foreground_A``: a(s) = #{v in s : y(v) != background}, (n,) int64
* ``slice_difficulty_A``: d(s) = mean over the classes c predicted in s of the mean of H over {v in s : y(v) = c}, (n,) float64; 0 where
  nothing is predicted. It is ``class_balanced_entropy`` of the slice (ASSFT's difficulty, our reading).

A is the axis of the preprocessed array: 0, 1 or 2. For regions a class is a head above 0.5 and H its own binary entropy.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

AXES = (0, 1, 2)
FOREGROUND, DIFFICULTY = "slice_foreground_{}", "slice_difficulty_{}"


class SliceSums:
    """Sums over slabs along the first axis; their order and size do not matter (beyond float64 rounding).

    Args:
        shape: (Z, Y, X) of the whole array.
        classes: number of heads.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        self.shape, self.classes = tuple(shape), classes
        self.foreground = [np.zeros(n, dtype=np.int64) for n in self.shape]
        self.volume = [np.zeros((n, classes), dtype=np.int64) for n in self.shape]
        self.entropy = [np.zeros((n, classes)) for n in self.shape]

    def add_foreground(self, first: int, voxels: Tensor) -> None:
        """Count predicted foreground.

        Args:
            first: where the slab begins on the first axis.
            voxels: (n,) indices into the flattened slab, each once.
        """
        for axis, position in enumerate(self._positions(first, voxels)):
            self.foreground[axis] += torch.bincount(position, minlength=self.shape[axis]).cpu().numpy()

    def add_classes(self, first: int, voxels: Tensor, classes: Tensor, entropy: Tensor) -> None:
        """Add the entropy of voxels to the class that is predicted there.

        Args:
            first: where the slab begins on the first axis.
            voxels: (n,) indices into the flattened slab.
            classes: (n,) predicted head of each.
            entropy: (n,) nats.
        """
        if entropy.device.type == "mps":  # it has no float64
            voxels, classes, entropy = voxels.cpu(), classes.cpu(), entropy.cpu()
        entropy = entropy.double()
        for axis, position in enumerate(self._positions(first, voxels)):
            n = self.shape[axis]
            group, size = position * self.classes + classes, n * self.classes
            self.volume[axis] += torch.bincount(group, minlength=size).cpu().numpy().reshape(n, -1)
            total = torch.bincount(group, weights=entropy, minlength=size)
            self.entropy[axis] += total.cpu().numpy().reshape(n, -1)

    def _positions(self, first: int, voxels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        _, height, width = self.shape
        row = torch.div(voxels, width, rounding_mode="floor")
        slab = torch.div(row, height, rounding_mode="floor")
        return slab + first, row - slab * height, voxels - row * width

    def arrays(self) -> dict[str, np.ndarray]:
        """The module's arrays, by name."""
        found: dict[str, np.ndarray] = {}
        for axis in AXES:
            volume, entropy = self.volume[axis], self.entropy[axis]
            means = np.divide(entropy, volume, out=np.zeros_like(entropy), where=volume > 0)
            present = (volume > 0).sum(axis=1)
            found[FOREGROUND.format(axis)] = self.foreground[axis].copy()
            found[DIFFICULTY.format(axis)] = means.sum(axis=1) / np.maximum(present, 1)
        return found
