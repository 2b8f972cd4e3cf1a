"""The arg-max over the heads of logits, fast on a CPU, where PyTorch's own takes longer than all other scoring together.

Subtract the highest logit of a voxel: the signs of its C entries are then 0 at the highest head and -1 elsewhere. One small matrix
product turns the signs into the number of that head and the count of ties. Only voxels with ties need a real arg-max.
"""

from __future__ import annotations

import torch
from torch import Tensor

PIECE = 2**17
"""Logits per piece on a CPU; copies of this size stay in the cache."""


def counting_rows(heads: int) -> Tensor:
    """Two rows over the heads: their numbers, and ones."""
    return torch.stack([torch.arange(heads, dtype=torch.float32), torch.ones(heads)])


def first_zero(x: Tensor, scratch: Tensor, counting: Tensor) -> Tensor:
    """The first head whose entry is 0, (n,) int64.

    Args:
        x: (C, n) float32, each column's highest entry 0.
        scratch: (C, n) float32, overwritten.
        counting: :func:`counting_rows`.
    """
    heads = len(x)
    torch.sign(x, out=scratch)  # 0 where highest, else -1
    found, number = counting @ scratch
    # NaN has no number; the entropy becomes NaN and reports it
    label = found.add_(heads * (heads - 1) / 2).long().clamp_(0, heads - 1)
    ties = (number > 1.5 - heads).nonzero().flatten()
    if len(ties):
        label[ties] = x[:, ties].argmax(0)
    return label


@torch.inference_mode()
def highest_head(logits: Tensor) -> Tensor:
    """The arg-max (...) int64 of finite logits (C, ...) of any float dtype, fast on a CPU as well; ties: the first head."""
    heads = len(logits)
    if logits.device.type != "cpu" or heads == 1:
        return logits.argmax(0)
    flat = logits.reshape(heads, -1)
    label = torch.empty(flat.shape[1], dtype=torch.int64)
    step, counting = max(1, PIECE // heads), counting_rows(heads)
    scratch = torch.empty((2, heads, min(step, flat.shape[1])))
    for start in range(0, flat.shape[1], step):
        part = flat[:, start : start + step]
        x, signs = scratch[..., : part.shape[1]]
        x.copy_(part).sub_(x.amax(0))
        label[start : start + step] = first_zero(x, signs, counting)
    return label.reshape(logits.shape[1:])
