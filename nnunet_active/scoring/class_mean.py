r"""Embeddings of the predicted classes: the deepest encoder features, averaged over the region where a class is predicted.

``z_c(x) = sum_i w_c(i) f(i) / sum_i w_c(i)``, i over the cells of the deepest feature map in all patches of the sliding window, f(i)
the features of a cell, w_c(i) the share of the cell's voxels predicted as c in that patch (our reading of the "class-weighted
pooled feature" of STDR and of BADGE's gradients, on whole cases). Forward hooks collect the features during the scoring pass.
"""

from __future__ import annotations

from types import TracebackType

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, adaptive_avg_pool3d

from nnunet_active.scoring.arg_max import highest_head
from nnunet_active.scoring.encoder import deepest_features, deepest_stage, unwrap
from nnunet_active.scoring.groups import sum_by_group


class ClassMeanRecorder:
    """Context manager that pools the deepest encoder features by the class predicted at their cell, over all passes inside it.

    Args:
        network: has an ``encoder`` and puts out logits (deep supervision off).
        regions: sigmoid heads (predicted where above 0) instead of a softmax.

    Attributes:
        recording: whether forward passes count at the moment; initially True.

    Raises:
        ValueError: no encoder.
    """

    def __init__(self, network: nn.Module, regions: bool = False) -> None:
        self._network = unwrap(network)
        self._stage = deepest_stage(network)
        self._regions = regions
        self._features: Tensor | None = None
        self._sum: Tensor | None = None
        self._weight: Tensor | None = None
        self._plain: Tensor | None = None
        self._cells = 0
        self._cell: tuple[tuple, Tensor] | None = None
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self.recording = True

    def __enter__(self) -> ClassMeanRecorder:
        self._handles = [
            self._stage.register_forward_hook(self._keep),
            self._network.register_forward_hook(self._pool),
        ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._features = None

    def _keep(self, module: nn.Module, inputs: tuple, output: Tensor | list[Tensor] | tuple[Tensor, ...]) -> None:
        if self.recording:
            self._features = deepest_features(output)

    def _pool(self, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        if self._features is None or not isinstance(output, Tensor):
            return
        features, self._features = self._features.detach().float(), None
        weight = self._of_regions(output.detach(), features) if self._regions else self._of_classes(output, features)
        flat = features.flatten(2)  # (B, d, cells)
        pooled = torch.einsum("bci,bdi->cd", weight, flat)
        if self._sum is None:
            self._sum, self._weight = torch.zeros_like(pooled), torch.zeros_like(weight[0, :, 0])
            self._plain = torch.zeros_like(pooled[0])
        self._sum += pooled
        self._weight += weight.sum((0, 2))
        self._plain += flat.sum((0, 2))
        self._cells += flat.shape[0] * flat.shape[2]

    @staticmethod
    def _of_regions(output: Tensor, features: Tensor) -> Tensor:
        """Share of each cell's voxels for which a head is predicted, (B, C, cells)."""
        pool = adaptive_avg_pool3d if features.ndim == 5 else adaptive_avg_pool2d
        return pool((output > 0).float(), tuple(features.shape[2:])).flatten(2)

    def _of_classes(self, output: Tensor, features: Tensor) -> Tensor:
        """Number of each cell's voxels predicted as each class, (B, C, cells)."""
        batch, heads = output.shape[:2]
        cells = features[0, 0].numel()
        label = highest_head(output.detach().movedim(1, 0))
        group = (label + heads * self._cells_of(label[0].shape, features)).reshape(batch, -1)
        group = group + (heads * cells) * torch.arange(batch, device=group.device)[:, None]
        votes = sum_by_group(group.flatten(), None, batch * cells * heads)
        return votes.reshape(batch, cells, heads).movedim(2, 1).float()

    def _cells_of(self, shape: tuple[int, ...], features: Tensor) -> Tensor:
        """The cell that each voxel of a window lies in, of ``shape``; the same for all windows."""
        cells = tuple(features.shape[2:])
        if self._cell is None or self._cell[0] != (tuple(shape), cells):
            number = torch.zeros((), dtype=torch.int64, device=features.device)
            for size, n in zip(shape, cells, strict=True):
                number = number[..., None] * n + torch.arange(size, device=features.device) * n // size
            self._cell = (tuple(shape), cells), number
        return self._cell[1]

    def class_mean(self, class_volume: np.ndarray) -> np.ndarray:
        """The mean features of each class, (C, d) float32; zeros exactly where ``class_volume`` is 0.

        A class in the merged prediction of all patches that no single patch predicts gets the mean of all features.

        Args:
            class_volume: (C,) voxels of each class in the merged prediction.

        Raises:
            ValueError: no forward pass was made inside the context, or one whose output was not one tensor.
        """
        if self._sum is None:
            raise ValueError("the encoder was not run, so that there is no embedding")
        total, weight = self._sum.cpu().numpy().astype(np.float64), self._weight.cpu().numpy().astype(np.float64)
        plain = self._plain.cpu().numpy().astype(np.float64) / self._cells
        mean = np.where(weight[:, None] > 0, total / np.maximum(weight, 1e-12)[:, None], plain)
        return np.where(np.asarray(class_volume)[:, None] > 0, mean, 0.0).astype(np.float32)
