r"""Prediction gap: how far one network's prediction of a case lies from another's.

``KL(p || q) = (1/N) sum_v sum_c p_c(v) (ln p_c(v) - ln q_c(v))`` in nats, p the source's prediction, q the current one's. It serves
strategies that need ``prediction_gap``. With regions (sigmoid heads): the sum of the heads' binary divergences.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnunet_active.scoring.statistics import mean_over_voxels


def _log_probabilities(logits: Tensor, regions: bool) -> Tensor:
    if regions:
        return torch.stack([torch.nn.functional.logsigmoid(logits), torch.nn.functional.logsigmoid(-logits)])
    return torch.log_softmax(logits, 0)


class Divergence:
    """Sums up the divergence over slabs.

    Args:
        regions: sigmoid heads instead of a softmax.
    """

    def __init__(self, regions: bool = False) -> None:
        self.regions = regions
        self._total: Tensor | float = 0.0
        self._voxels = 0

    @torch.inference_mode()
    def add(self, source: Tensor, current: Tensor) -> None:
        """Add the same slab of both networks' logits.

        Args:
            source: logits (C, ...) of any float dtype, on any device.
            current: logits of the same shape.

        Raises:
            ValueError: different or empty shapes.
        """
        if source.shape != current.shape or not source.numel():
            raise ValueError(f"the predictions have the shapes {tuple(source.shape)} and {tuple(current.shape)}")
        if current.device.type == "mps":  # MPS has no float64
            current = current.cpu()
        then = _log_probabilities(source.to(current.device).float(), self.regions)
        now = _log_probabilities(current.float(), self.regions)
        self._total = self._total + (then.exp() * (then - now)).sum(dtype=torch.float64)
        self._voxels += current[0].numel()

    def mean(self) -> float:
        """Mean voxel KL(source || current) in nats, never below 0.

        Raises:
            ValueError: nothing was added, or a logit was NaN or infinite.
        """
        if not self._voxels:
            raise ValueError("no voxel was compared")
        return mean_over_voxels(self._total, self._voxels)
