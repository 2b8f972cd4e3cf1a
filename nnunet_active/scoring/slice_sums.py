r"""How much is predicted in each slice of a case, and how difficult the slice is: ASD's sums, slice by slice along every axis.

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

from nnunet_active.scoring.groups import sum_by_group
from nnunet_active.scoring.voxels import RegionVoxels, Voxels

AXES = (0, 1, 2)
FOREGROUND, DIFFICULTY = "slice_foreground_{}", "slice_difficulty_{}"


class SliceSums:
    """Sums over slabs; their order and size do not matter (beyond float64 rounding).

    Args:
        shape: (Z, Y, X) of the whole array.
        classes: number of heads.
        regions: sigmoid heads instead of a softmax.
        device: where the sums are held, in float64.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, regions: bool, device: torch.device) -> None:
        self.classes, self.regions = classes, regions
        how = {"dtype": torch.float64, "device": device}
        self._foreground = [torch.zeros(n, **how) for n in shape]
        self._volume = [torch.zeros((n, classes), **how) for n in shape]
        self._entropy = [torch.zeros((n, classes), **how) for n in shape]

    def add(self, voxels: Voxels, box: tuple[int, int, int], corner: tuple[int, int, int]) -> None:
        """Add the voxels of a slab.

        Args:
            voxels: (n r X,) in C order.
            box: (n, r, X), the slab's shape.
            corner: where the slab begins on each axis.
        """
        for axis, (first, n) in enumerate(zip(corner, box, strict=True)):
            here = slice(first, first + n)
            sums = self._of_regions(voxels, box, axis) if self.regions else self._of_classes(voxels, box, axis)
            for whole, part in zip((self._foreground, self._volume, self._entropy), sums, strict=True):
                whole[axis][here] += part

    def _of_classes(self, voxels: Voxels, box: tuple[int, int, int], axis: int) -> tuple[Tensor, Tensor, Tensor]:
        n, label = box[axis], voxels.label.reshape(box)
        ramp = self.classes * torch.arange(n, device=label.device)
        group = (label + ramp.reshape([-1 if axis == other else 1 for other in AXES])).flatten()
        volume = sum_by_group(group, None, n * self.classes).reshape(n, -1)
        entropy = sum_by_group(group, voxels.entropy.double(), n * self.classes).reshape(n, -1)
        return volume[:, 1:].sum(1), volume, entropy

    def _of_regions(self, voxels: RegionVoxels, box: tuple[int, int, int], axis: int) -> tuple[Tensor, Tensor, Tensor]:
        others = [other for other in AXES if other != axis]
        heads = [other + 1 for other in others]
        predicted = voxels.predicted.reshape(-1, *box)
        entropy = (voxels.binary * voxels.predicted).reshape(-1, *box)
        return voxels.label.reshape(box).sum(others), predicted.sum(heads).T, entropy.sum(heads, dtype=torch.float64).T

    def class_sums(self) -> tuple[Tensor, Tensor]:
        """Number of voxels and summed entropy of every predicted class, (C,) float64 each."""
        return self._volume[0].sum(0), self._entropy[0].sum(0)

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays of the module's docstring, by name."""
        classes = slice(0 if self.regions else 1, None)
        found: dict[str, np.ndarray] = {}
        for axis in AXES:
            volume, entropy = (sums[axis].cpu().numpy()[:, classes] for sums in (self._volume, self._entropy))
            means = np.divide(entropy, volume, out=np.zeros_like(entropy), where=volume > 0)
            present = (volume > 0).sum(axis=1)
            found[FOREGROUND.format(axis)] = self._foreground[axis].cpu().numpy().astype(np.int64)
            found[DIFFICULTY.format(axis)] = means.sum(axis=1) / np.maximum(present, 1)
        return found
