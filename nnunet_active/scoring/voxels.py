r"""All values that scoring needs of each voxel, from its logits, in few passes over the heads, because the passes are the cost.

With m = max_c l_c, e_c = 2^((l_c - m) log2 e) and S = sum_c e_c, the softmax is p_c = e_c / S, and

* H = ln S - ln 2 sum_c e_c log2 e_c / S (nats; both parts are positive, so no large numbers cancel)
* the highest probability is 1 / S, the second highest that of e without its maximum.

Two heads and regions need no sum: with a = |l_1 - l_0| (of a region: |l|) and t = exp(-a), the higher probability is h = 1 / (1 + t)
and H = ln(1 + t) + a t h. A NaN or infinite logit makes H NaN. (Powers of two, because they are the fastest on CPUs.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nnunet_active.scoring.arg_max import PIECE, counting_rows, first_zero

LOG2_E = 1 / math.log(2)


@dataclass(frozen=True)
class Voxels:
    """The values of n voxels.

    Attributes:
        entropy: (n,) float32, nats.
        margin: (n,) float32, first minus second probability.
        highest: (n,) float32, highest probability.
        weight: (n,) float32, probability of foreground.
        label: (n,) int64, predicted head; for regions 1 where any head is predicted, else 0.
        mass: (C,) float64, the sum of every head's probability.
    """

    entropy: Tensor
    margin: Tensor
    highest: Tensor
    weight: Tensor
    label: Tensor
    mass: Tensor


@dataclass(frozen=True)
class RegionVoxels(Voxels):
    """The same for regions, plus values of every head.

    Attributes:
        binary: (C, n) float32, entropy of every head alone, nats.
        predicted: (C, n) bool, heads above 0.5.
        sure: (C,) float64, the sum of every head's probability over the voxels where it is predicted.
    """

    binary: Tensor
    predicted: Tensor
    sure: Tensor


def _binary(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Entropy, higher and lower probability of one sigmoid, elementwise."""
    size = logits.abs()
    lower = torch.exp2(size * -LOG2_E)
    total = lower + 1
    higher = total.reciprocal()
    lower.mul_(higher)
    return total.log_().add_(size.mul_(lower)), higher, lower


def two_heads(flat: Tensor) -> Voxels:
    """The values from logits (2, n), by one sigmoid instead of a softmax."""
    difference = flat[1].float() - flat[0].float()
    entropy, higher, lower = _binary(difference)
    label = difference > 0
    weight = torch.where(label, higher, lower)
    foreground = weight.sum().double()
    mass = torch.stack([len(weight) - foreground, foreground])
    return Voxels(entropy, higher - lower, higher, weight, label.long(), mass)


def regions(flat: Tensor) -> RegionVoxels:
    """The values from logits (C, n) of independent heads."""
    flat = flat.float()
    binary, higher, lower = _binary(flat)
    predicted = flat > 0
    probabilities = torch.where(predicted, higher, lower)
    highest = higher.mean(0)
    return RegionVoxels(
        entropy=binary.sum(0),
        margin=2 * highest - 1,
        highest=highest,
        weight=probabilities.amax(0),
        label=predicted.any(0).long(),
        mass=probabilities.sum(1).double(),
        binary=binary,
        predicted=predicted,
        sure=(probabilities * predicted).sum(1).double(),
    )


class Softmax:
    """The values from logits (C, n) of a softmax, piece by piece; keeps its scratch memory from call to call.

    Args:
        heads: C, at least 3 (:func:`two_heads` is faster for two).
        device: of the logits.
    """

    def __init__(self, heads: int, device: torch.device) -> None:
        self.heads, self.on_a_cpu = heads, device.type == "cpu"
        size = max(1, PIECE // heads)
        self._scratch = torch.empty((3, heads, size), device=device) if self.on_a_cpu else None
        self._counting = counting_rows(heads)

    def __call__(self, flat: Tensor) -> Voxels:
        """All values from logits (C, n)."""
        n = flat.shape[1]
        maps = torch.empty((4, n), device=flat.device)
        label = torch.empty(n, dtype=torch.int64, device=flat.device)
        total = torch.zeros(self.heads, dtype=torch.float64, device=flat.device)
        step = n if self._scratch is None else self._scratch.shape[2]
        for start in range(0, n, step):
            part = slice(start, min(start + step, n))
            total += self._piece(flat[:, part], maps[:, part], label[part])
        return Voxels(maps[0], maps[1], maps[2], maps[3], label, total)

    def _piece(self, logits: Tensor, maps: Tensor, label: Tensor) -> Tensor:
        n = logits.shape[1]
        scratch = (
            self._scratch[..., :n] if self._scratch is not None else torch.empty((3, *logits.shape), device=maps.device)
        )
        x, e, product = scratch
        entropy, margin, highest, weight = maps
        x.copy_(logits)
        x.sub_(x.amax(0)).mul_(LOG2_E)
        torch.exp2(x, out=e)
        # the background last: where it is nearly certain, 1 - p_background would be all rounding error
        rest = e[1:].sum(0)
        total = rest + e[0]
        torch.reciprocal(total, out=highest)
        torch.mul(e, x, out=product)
        torch.sub(total.log(), product.sum(0).mul_(highest), alpha=1 / LOG2_E, out=entropy)
        torch.mul(rest, highest, out=weight)
        label.copy_(first_zero(x, product, self._counting) if self.on_a_cpu else x.argmax(0))
        mass = e @ highest if self.on_a_cpu else torch.mul(e, highest, out=product).sum(1)
        e.scatter_(0, label[None], -1.0)
        torch.mul(e.amax(0), highest, out=margin)
        torch.sub(highest, margin, out=margin)
        return mass
