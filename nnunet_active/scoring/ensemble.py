r"""Disagreement of an ensemble on one case: BALD's mutual information, averaged over voxels.

``I = (1/N) sum_v [ H(mean_k p_k(v)) - mean_k H(p_k(v)) ]`` in nats, with p_k the prediction of ensemble member k (Houlsby et al. 2011).
Members can be folds, or mirrored passes of one network (our choice where there is one network only). 0 where all members agree.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnunet_active.scoring.statistics import slabs, voxel_entropy


class MeanPrediction:
    """The mean of several predictions of one case, and how far they disagree; one member is held at a time.

    Args:
        regions: sigmoid heads (the entropies of the heads are added) instead of a softmax.
        entropies: also sum up the members' entropies, for :meth:`mutual_information`.
    """

    def __init__(self, regions: bool = False, entropies: bool = True) -> None:
        self.regions = regions
        self.members = 0
        self._entropies = entropies
        self._own = 0.0
        self._sum: Tensor | None = None

    def add(self, logits: Tensor) -> None:
        """Add a member.

        Args:
            logits: (C, Z, Y, X) of any float dtype, on any device.

        Raises:
            ValueError: a logit is NaN or infinite.
        """
        if self._sum is None:
            self._sum = torch.zeros(logits.shape, dtype=torch.float32, device=logits.device)
        elif self._sum.device != logits.device:  # nnU-Net falls back to the CPU where the device's memory is too small
            self._sum, logits = self._sum.cpu(), logits.cpu()
        for part in slabs(logits):
            values = logits[:, part].float()
            if not torch.isfinite(values).all():
                raise ValueError("the network's output holds NaN or infinite values")
            probabilities = values.sigmoid() if self.regions else values.softmax(0)
            if self._entropies:
                self._own += self._entropy(probabilities)
            self._sum[:, part] += probabilities
        self.members += 1

    def _entropy(self, probabilities: Tensor) -> float:
        if self.regions:
            entropy = torch.special.entr(probabilities) + torch.special.entr(1 - probabilities)
        else:
            entropy = voxel_entropy(probabilities)
        if entropy.device.type == "mps":  # it has no float64
            entropy = entropy.cpu()
        return float(entropy.sum(dtype=torch.float64))

    def mutual_information(self) -> float:
        """Mean voxel mutual information of the members, in nats, never below 0.

        Raises:
            ValueError: no member, or entropies were not asked for.
        """
        if self._sum is None or not self._entropies:
            raise ValueError("an ensemble needs at least one member, and its entropies")
        of_mean = sum(self._entropy(self._sum[:, part] / self.members) for part in slabs(self._sum))
        return max(0.0, (of_mean - self._own / self.members) / self._sum[0].numel())

    def logits(self) -> Tensor:
        """Logits (C, Z, Y, X) float32 whose softmax (regions: sigmoid) is the mean of the members' probabilities.

        This uses up the sum: afterwards only :attr:`members` may be asked for.

        Raises:
            ValueError: no member.
        """
        if self._sum is None:
            raise ValueError("an ensemble needs at least one member")
        mean, self._sum = self._sum, None
        for part in slabs(mean):
            # finite also where all members are as sure as single precision can say
            probabilities = (mean[:, part] / self.members).clamp(min=1e-37)
            if self.regions:
                probabilities.clamp_(max=1 - 2**-24)
                mean[:, part] = probabilities.log() - torch.log1p(-probabilities)
            else:
                mean[:, part] = probabilities.log()
        return mean
