"""Sums over groups of voxels, in float64: adding a slab one by one in float32 gives errors of up to a percent."""

from __future__ import annotations

import torch
from torch import Tensor

MOST_BINS = 2**20
WITH_BINCOUNT = ("cpu",)


def sum_by_group(group: Tensor, values: Tensor | None, size: int) -> Tensor:
    """Sum of the values of each group, (size,) float64; does not block on a GPU.

    Args:
        group: (n,) int64, from 0 to ``size`` - 1.
        values: (n,) float64; None counts the members.
        size: number of groups.
    """
    if group.device.type in WITH_BINCOUNT:
        return torch.bincount(group, values, minlength=size).double()
    # A GPU's bincount waits for the largest group. Neighbours in one group would queue for one sum, so each group gets several.
    several = max(1, MOST_BINS // size)
    spread = group + size * torch.arange(len(group), device=group.device).remainder_(several)
    sums = torch.zeros(size * several, dtype=torch.float64, device=group.device)
    ones = torch.ones_like(group, dtype=torch.float64) if values is None else values
    return sums.scatter_add_(0, spread, ones).reshape(several, size).sum(0)
