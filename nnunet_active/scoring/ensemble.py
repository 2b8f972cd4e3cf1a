r"""Disagreement of an ensemble on one case: BALD's mutual information, averaged over voxels.

``I = (1/N) sum_v [ H(mean_k p_k(v)) - mean_k H(p_k(v)) ]`` in nats, with p_k the prediction of ensemble member k (Houlsby et al. 2011).
Members can be folds, or mirrored passes of one network (our choice where there is one network only). 0 where all members agree.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from nnunet_active.scoring.statistics import voxel_entropy


def _total_entropy(probabilities: Tensor, regions: bool) -> float:
    """Sum over voxels of H; slice by slice, so that no second volume is made."""
    total = 0.0
    for index in range(probabilities.shape[1]):
        slab = probabilities[:, index]
        if regions:
            total += float((torch.special.entr(slab) + torch.special.entr(1 - slab)).sum(dtype=torch.float64))
        else:
            total += float(voxel_entropy(slab).sum(dtype=torch.float64))
    return total


def mutual_information(logits: Iterable[Tensor], regions: bool = False) -> float:
    """Mean voxel mutual information of the members, in nats, never below 0.

    Args:
        logits: one (C, Z, Y, X) tensor per member, taken one at a time; of all members only the mean probability is kept.
        regions: sigmoid heads (the entropies of the heads are added) instead of a softmax.

    Raises:
        ValueError: no member, or a NaN or infinite logit.
    """
    mean: Tensor | None = None
    own, members = 0.0, 0
    for member in logits:
        values = member.float()
        if not torch.isfinite(values).all():
            raise ValueError("the network's output holds NaN or infinite values")
        probabilities = values.sigmoid() if regions else values.softmax(0)
        own += _total_entropy(probabilities, regions)
        mean = probabilities if mean is None else mean.add_(probabilities)
        members += 1
    if mean is None:
        raise ValueError("an ensemble needs at least one member")
    mean.div_(members)
    voxels = mean[0].numel()
    return max(0.0, (_total_entropy(mean, regions) - own / members) / voxels)
