r"""Prediction gap: how far one network's prediction of a case lies from another's.

``KL(p || q) = (1/N) sum_v sum_c p_c(v) (ln p_c(v) - ln q_c(v))`` in nats, p the source's prediction, q the current one's. A
strategy that needs ``prediction_gap`` gets it. With regions (sigmoid heads): the sum of the heads' binary divergences.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nnunet_active.scoring.statistics import slabs


def _log_probabilities(logits: Tensor, regions: bool) -> Tensor:
    if regions:
        return torch.stack([torch.nn.functional.logsigmoid(logits), torch.nn.functional.logsigmoid(-logits)])
    return torch.log_softmax(logits, 0)


def mean_divergence(source: Tensor, current: Tensor, regions: bool = False) -> float:
    """Mean voxel KL(source || current) in nats, never below 0; slab by slab, no volume is copied as a whole.

    Args:
        source: logits (C, Z, Y, X) of any float dtype, on any device.
        current: logits of the same shape.
        regions: sigmoid heads instead of a softmax.

    Raises:
        ValueError: different or empty shapes, or NaN or infinite logits.
    """
    if source.shape != current.shape or not source.numel():
        raise ValueError(f"the predictions have the shapes {tuple(source.shape)} and {tuple(current.shape)}")
    total = 0.0
    for part in slabs(current):
        then = _log_probabilities(source[:, part].to(current.device).float(), regions)
        now = _log_probabilities(current[:, part].float(), regions)
        total += float((then.exp() * (then - now)).sum(dtype=torch.float64 if then.device.type != "mps" else None))
    if not math.isfinite(total):
        raise ValueError("the network's output holds NaN or infinite values")
    return max(0.0, total / current[0].numel())
