r"""Disagreement of an ensemble on one case: BALD's mutual information, averaged over voxels.

``I = (1/N) sum_v [ H(mean_k p_k(v)) - mean_k H(p_k(v)) ]`` in nats, with p_k the prediction of ensemble member k (Houlsby et al. 2011).
Members can be folds, or mirrored passes of one network (our choice if there is only one network). I is 0 if all members agree.

All members are read in step, slab by slab, so no member's whole volume is held.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nnunet_active.scoring.statistics import mean_over_voxels, voxel_entropy


def head_probabilities(logits: Tensor, regions: bool, dim: int = 0) -> Tensor:
    """Softmax over the axis ``dim``, or sigmoid for regions, in float32."""
    return logits.float().sigmoid() if regions else logits.float().softmax(dim)


def _mean_probabilities(members: Sequence[Tensor], regions: bool) -> Tensor:
    mean: Tensor | None = None
    for logits in members:
        own = head_probabilities(logits, regions)
        mean = own if mean is None else mean.add_(own)
    if mean is None:
        raise ValueError("an ensemble needs at least one member")
    return mean.div_(len(members))


@torch.inference_mode()
def mean_logits(members: Sequence[Tensor], regions: bool = False) -> Tensor:
    """Logits (C, ...) float32 whose softmax (regions: sigmoid) is the mean of the members' probabilities; finite if theirs are.

    Args:
        members: logits (C, ...) of any float dtype, all of one shape.
        regions: sigmoid heads instead of a softmax.

    Raises:
        ValueError: no member.
    """
    # keeps the logarithm finite even if all members are as sure as single precision allows
    mean = _mean_probabilities(members, regions).clamp_(min=1e-37)
    if not regions:
        return mean.log_()
    mean.clamp_(max=1 - 2**-24)
    return mean.log() - torch.log1p(-mean)


class Disagreement:
    """Sums up the mutual information over slabs.

    Args:
        regions: sigmoid heads (the entropies of the heads are added) instead of a softmax.
    """

    def __init__(self, regions: bool = False) -> None:
        self.regions = regions
        self._total: Tensor | float = 0.0
        self._voxels = 0

    @torch.inference_mode()
    def add(self, members: Sequence[Tensor]) -> None:
        """Add the same slab of every member.

        Args:
            members: logits (C, ...) of any float dtype, all of one shape and on one device.

        Raises:
            ValueError: no member.
        """
        if members and members[0].device.type == "mps":  # MPS has no float64
            members = [logits.cpu() for logits in members]
        total = self._entropy(_mean_probabilities(members, self.regions))
        for logits in members:
            own = head_probabilities(logits, self.regions)
            total = total - self._entropy(own) / len(members)
        self._total = self._total + total
        self._voxels += members[0][0].numel()

    def _entropy(self, probabilities: Tensor) -> Tensor:
        if self.regions:
            entropy = torch.special.entr(probabilities) + torch.special.entr(1 - probabilities)
        else:
            entropy = voxel_entropy(probabilities)
        return entropy.sum(dtype=torch.float64)

    def mutual_information(self) -> float:
        """Mean voxel mutual information of the members, in nats, never below 0.

        Raises:
            ValueError: nothing was added, or a logit was NaN or infinite.
        """
        if not self._voxels:
            raise ValueError("an ensemble needs at least one member")
        return mean_over_voxels(self._total, self._voxels)
