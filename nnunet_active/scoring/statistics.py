r"""Per-case statistics of a network's output, computed slab by slab: only part of a slab is ever held in float32.

Notation (all entropies in nats): p(v) is the softmax over the C heads at voxel v, H(q) = -sum_c q_c ln q_c (0 where q_c is),
y(v) = argmax_c p_c(v), N the number of voxels of the preprocessed array, head 0 the background.

==========================  ====================================================================  ===================
column                      formula                                                               status
==========================  ====================================================================  ===================
mean_entropy                u = (1/N) sum_v H(p(v))                                               mmActS, paper+code
foreground_voxels           a = #{v : y(v) != background}                                         mmActS, our reading
foreground_mm3              a times the voxel volume in mm³                                       -
foreground_entropy          mean of H over the predicted foreground; NaN where nothing is         ASSFT, our reading
                            predicted
class_balanced_entropy      mean over the predicted classes of the mean of H over that class      ASSFT, our choice
soft_foreground_entropy     sum_v w H / sum_v w with w = 1 - p_background                         ASSFT, our choice
confidence                  mean of max_c p over the predicted foreground; NaN if none            ASSFT, our reading
mean_margin                 (1/N) sum_v (p_first - p_second)                                      -
mean_max_probability        (1/N) sum_v max_c p                                                   -
soft_dice_confidence        mean over the predicted foreground classes c of                       our use of a known
                            2 sum_{v: y=c} p_c / (sum_v p_c + #{v: y=c}); NaN if none             measure
==========================  ====================================================================  ===================

Region-based networks have C independent sigmoid heads without a background head. Our choice for them: H(v) is the sum of the
heads' binary entropies (the joint entropy of independent labels), a voxel is foreground where any head exceeds 0.5, the maximum
probability of a voxel is the mean over heads of max(p, 1 - p), its margin the mean of |2p - 1|, and w = max_c p.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from nnunet_active.scoring.groups import sum_by_group
from nnunet_active.scoring.slice_sums import SliceSums
from nnunet_active.scoring.voxels import RegionVoxels, Softmax, Voxels, regions, two_heads

SCALARS = (
    "mean_entropy",
    "foreground_voxels",
    "foreground_mm3",
    "foreground_entropy",
    "class_balanced_entropy",
    "soft_foreground_entropy",
    "confidence",
    "mean_margin",
    "mean_max_probability",
    "soft_dice_confidence",
    "voxels",
)
"""Names of every case's scalars, in order."""

LOWEST_PROBABILITY = 1e-10
NOT_FINITE = "the network's output holds NaN or infinite values"
SLAB_VOXELS = 2**18  # the values of this many voxels stay in the processor's cache; larger slabs are slower
_TOTALS = ("entropy", "margin", "max_probability", "soft_weight", "soft_entropy")


def mean_over_voxels(total: Tensor | float, voxels: int) -> float:
    """Divide the sum over voxels of a quantity that is never negative (a divergence, a mutual information); rounding below 0 gives 0.

    Raises:
        ValueError: the sum is NaN or infinite.
    """
    value = float(total)
    if not math.isfinite(value):
        raise ValueError(NOT_FINITE)
    return max(0.0, value / voxels)


@dataclass(frozen=True)
class CaseScores:
    """All statistics of one case.

    Attributes:
        scalars: the columns of the module's table plus ``voxels`` (N), as Python floats.
        arrays: ``class_volume`` (C,) int64 voxels per head (head 0 is the background of softmax networks); ``class_soft_dice`` (C,)
            float64, each head's soft Dice confidence (0 where it is not predicted); if recorded also ``embedding`` (d,) float32;
            ``class_mean`` (C, d) float32; ``entropy_histogram`` (bins,) int64: voxels by H, in equal bins from 0 to its
            maximum, ln C (regions: C ln 2).
        slices: values of every slice along each axis, see :mod:`nnunet_active.scoring.slice_sums`. Their length is the case's number
            of slices, so they are never stacked over cases as ``arrays`` are.
    """

    scalars: dict[str, float]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    slices: dict[str, np.ndarray] = field(default_factory=dict)


def voxel_entropy(probabilities: Tensor) -> Tensor:
    """Entropy H over axis 0 in nats, probabilities clipped to [1e-10, 1] (golden value: see the tests).

    Args:
        probabilities: (C, ...) float; need not be normalised, as in the published code.

    Returns:
        (...) float tensor.
    """
    clipped = probabilities.clamp(LOWEST_PROBABILITY, 1)
    return -(clipped * clipped.log()).sum(0)


class ScoreAccumulator:
    """Sums over slabs of logits; the order and size of the slabs do not matter (beyond float64 rounding).

    The sums stay on the device of the logits until :meth:`result`, so nothing waits for a GPU before that.

    Args:
        heads: number of output channels C.
        regions: sigmoid heads (region-based training) instead of a softmax.
        entropy_bins: bins of the entropy histogram; 0 for no histogram.
        shape: (Z, Y, X) of the whole array, for sums over slices; None for no such sums.
    """

    def __init__(
        self,
        heads: int,
        regions: bool = False,
        entropy_bins: int = 0,
        shape: tuple[int, int, int] | None = None,
    ) -> None:
        self.heads, self.regions, self.entropy_bins, self.shape = heads, regions, entropy_bins, shape
        self.voxels = 0
        self._highest_entropy = heads * math.log(2) if regions else math.log(max(heads, 2))
        self._slices: SliceSums | None = None
        self._softmax: Softmax | None = None
        self._sums: dict[str, Tensor] = {}

    def _begin(self, device: torch.device) -> None:
        per_class = dict.fromkeys(("volume", "entropy", "sure", "mass"), self.heads)
        sizes = {**per_class, "totals": len(_TOTALS), "foreground": 3, "histogram": self.entropy_bins}
        self._sums = {name: torch.zeros(n, dtype=torch.float64, device=device) for name, n in sizes.items()}
        if self.shape is not None:
            self._slices = SliceSums(self.shape, self.heads, self.regions, device)
        if not self.regions and self.heads != 2:
            self._softmax = Softmax(self.heads, device)

    @torch.inference_mode()
    def update(self, logits: Tensor, first: int = 0, row: int = 0) -> None:
        """Add a slab.

        Args:
            logits: (C, ...) of any float dtype, on any device; (C, n, r, X) with sums over slices.
            first: where the slab begins on the first axis.
            row: where the slab begins on the second axis.
        """
        if logits.device.type == "mps":  # MPS has no float64
            logits = logits.cpu()
        if not self._sums:
            self._begin(logits.device)
        flat, sums = logits.reshape(self.heads, -1), self._sums
        found = regions(flat) if self.regions else self._softmax(flat) if self._softmax else two_heads(flat)
        self.voxels += flat.shape[1]
        totals = (found.entropy, found.margin, found.highest, found.weight, found.weight * found.entropy)
        sums["totals"] += torch.stack([values.sum() for values in totals])
        sums["mass"] += found.mass
        if isinstance(found, RegionVoxels):
            sums["sure"] += found.sure
            values = (found.label.double(), found.entropy * found.label, found.highest * found.label)
            sums["foreground"] += torch.stack([value.sum(dtype=torch.float64) for value in values])
        else:
            sums["sure"] += sum_by_group(found.label, found.highest.double(), self.heads)
        if self._slices is not None:
            self._slices.add(found, tuple(logits.shape[1:]), (first, row, 0))
        else:
            for name, values in zip(("volume", "entropy"), _class_sums(found, self.heads), strict=True):
                sums[name] += values
        if bins := self.entropy_bins:
            which = (found.entropy * (bins / self._highest_entropy)).long().clamp_(0, bins - 1)
            sums["histogram"] += sum_by_group(which, None, bins)

    def result(self, voxel_mm3: float) -> CaseScores:
        """The finished statistics.

        Args:
            voxel_mm3: volume of one voxel of the array that was scored, in mm³.

        Raises:
            ValueError: nothing was added, or a logit was NaN or infinite, which makes every score unreliable.
        """
        if self.voxels == 0:
            raise ValueError("no voxel was scored")
        sums = {name: values.cpu().numpy() for name, values in self._sums.items()}
        if not np.isfinite(sums["totals"]).all():
            raise ValueError(NOT_FINITE)
        if self._slices is not None:
            sums["volume"], sums["entropy"] = (values.cpu().numpy() for values in self._slices.class_sums())
        totals = dict(zip(_TOTALS, sums["totals"].tolist(), strict=True))
        classes = slice(0 if self.regions else 1, None)
        per_class = np.stack([sums[name][classes] for name in ("volume", "entropy", "sure", "mass")])
        inside = sums["foreground"] if self.regions else per_class[:3].sum(1)
        volume, entropy = per_class[:2, per_class[0] > 0]
        soft_dice = 2 * sums["sure"] / np.maximum(sums["mass"] + sums["volume"], np.finfo(float).tiny)
        foreground, nothing = int(inside[0]), float("nan")
        weight = totals["soft_weight"]
        scalars = {
            "mean_entropy": totals["entropy"] / self.voxels,
            "foreground_voxels": foreground,
            "foreground_mm3": foreground * voxel_mm3,
            "foreground_entropy": inside[1] / foreground if foreground else nothing,
            "class_balanced_entropy": (entropy / volume).mean() if len(volume) else nothing,
            "soft_foreground_entropy": totals["soft_entropy"] / weight if weight > 0 else 0.0,
            "confidence": inside[2] / foreground if foreground else nothing,
            "mean_margin": totals["margin"] / self.voxels,
            "mean_max_probability": totals["max_probability"] / self.voxels,
            "soft_dice_confidence": soft_dice[classes][per_class[0] > 0].mean() if len(volume) else nothing,
            "voxels": self.voxels,
        }
        arrays = {"class_volume": sums["volume"].astype(np.int64), "class_soft_dice": soft_dice}
        if self.entropy_bins:
            arrays["entropy_histogram"] = sums["histogram"].astype(np.int64)
        slices = {} if self._slices is None else self._slices.arrays()
        return CaseScores({name: float(scalars[name]) for name in SCALARS}, arrays, slices)


def _class_sums(found: Voxels, heads: int) -> tuple[Tensor, Tensor]:
    """Number of voxels and summed entropy of every predicted class, (C,) each."""
    if isinstance(found, RegionVoxels):
        return found.predicted.sum(1), (found.binary * found.predicted).sum(1)
    return sum_by_group(found.label, None, heads), sum_by_group(found.label, found.entropy.double(), heads)


def slabs(logits: Tensor) -> Iterator[slice]:
    """Slices of the first spatial axis of (C, Z, Y, X) that together cover it, each small enough for the cache."""
    per_slice = max(1, int(np.prod(logits.shape[2:])))
    step = max(1, SLAB_VOXELS // per_slice)
    for start in range(0, logits.shape[1], step):
        yield slice(start, start + step)


def score_logits(logits: Tensor, voxel_mm3: float, regions: bool = False, entropy_bins: int = 0) -> CaseScores:
    """Statistics of one case from its logits, slab by slab along the first spatial axis.

    Args:
        logits: (C, Z, Y, X) of any float dtype, on any device; never copied as a whole.
        voxel_mm3: volume of one voxel in mm³.
        regions: sigmoid heads instead of a softmax.
        entropy_bins: bins of an ``entropy_histogram``; 0 for none.

    Raises:
        ValueError: NaN or infinite logits, or an empty array.
    """
    if not logits.numel():
        raise ValueError("no voxel was scored")
    accumulator = ScoreAccumulator(logits.shape[0], regions, entropy_bins, tuple(logits.shape[1:]))
    for part in slabs(logits):
        accumulator.update(logits[:, part], part.start)
    return accumulator.result(voxel_mm3)
