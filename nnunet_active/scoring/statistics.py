r"""Per-case statistics of a network's output, reduced slab by slab so that only one slab is ever held in float32.

Notation (all entropies in nats): p(v) is the softmax over the C heads at voxel v, H(q) = -sum_c q_c ln q_c with q clipped to
[1e-10, 1], y(v) = argmax_c p_c(v), N the number of voxels of the preprocessed array, head 0 the background.

==========================  ====================================================================  ===================
column                      formula                                                               status
==========================  ====================================================================  ===================
mean_entropy                u = (1/N) sum_v H(p(v))                                               mmActS E2, paper+code
foreground_voxels           a = #{v : y(v) != background}                                         mmActS E1, our reading
foreground_mm3              a times the voxel volume in mm³                                       -
foreground_entropy          mean of H over the predicted foreground; NaN where nothing is         ASSFT, our reading
                            predicted
class_balanced_entropy      mean over the predicted classes of the mean of H over that class      ASSFT, our choice
soft_foreground_entropy     sum_v w H / sum_v w with w = 1 - p_background                         ASSFT, our choice
confidence                  mean of max_c p over the predicted foreground; NaN if none            ASSFT, our reading
mean_margin                 (1/N) sum_v (p_first - p_second)                                      -
mean_max_probability        (1/N) sum_v max_c p                                                   -
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

from nnunet_active.scoring.slice_sums import SliceSums

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
    "voxels",
)
"""Names of the scalars of every case, in their order."""

LOWEST_PROBABILITY = 1e-10
_LOWEST_LOG = math.log(LOWEST_PROBABILITY)
SLAB_VOXELS = 2**18  # a slab of the float32 copies then stays in the processor's cache; larger slabs are slower


@dataclass(frozen=True)
class CaseScores:
    """All statistics of one case.

    Attributes:
        scalars: the columns of the module's table plus ``voxels`` (N), as Python floats.
        arrays: ``class_volume`` (C,) int64 voxels per head (head 0 is the background of softmax networks) and, where an embedding
            was taken, ``embedding`` (d,) float32; ``class_mean`` (C, d) float32; ``entropy_histogram`` (bins,) int64: voxels by H, in
            equal bins from 0 to its maximum, ln C (regions: C ln 2).
        slices: of every slice along each axis, see :mod:`nnunet_active.scoring.slice_sums`; as long as the case has slices, so never
            stacked over cases as ``arrays`` are.
    """

    scalars: dict[str, float]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    slices: dict[str, np.ndarray] = field(default_factory=dict)


def voxel_entropy(probabilities: Tensor) -> Tensor:
    """Entropy H over axis 0 in nats, probabilities clipped to [1e-10, 1] (golden value of mmActS E2: see the tests).

    Args:
        probabilities: (C, ...) float; need not be normalised, as in the published code.

    Returns:
        (...) float tensor.
    """
    clipped = probabilities.clamp(LOWEST_PROBABILITY, 1)
    return -(clipped * clipped.log()).sum(0)


def _sum_by_group(group: Tensor, values: Tensor, size: int) -> np.ndarray:
    if values.device.type == "mps":  # it has no float64
        group, values = group.cpu(), values.cpu()
    # bincount adds one by one: in float32 the sum over a slab would be wrong by up to a percent
    return torch.bincount(group, weights=values.double(), minlength=size).cpu().numpy()


class ScoreAccumulator:
    """Sums over slabs of logits; the order and size of the slabs do not matter (beyond float64 rounding).

    Args:
        heads: number of output channels C.
        regions: sigmoid heads (region-based training) instead of a softmax.
        entropy_bins: bins of the entropy histogram; 0: none is taken.
        shape: (Z, Y, X) of the whole array, for sums over slices; None: none are taken.
    """

    def __init__(
        self,
        heads: int,
        regions: bool = False,
        entropy_bins: int = 0,
        shape: tuple[int, int, int] | None = None,
    ) -> None:
        self.heads = heads
        self.regions = regions
        self._slices = None if shape is None else SliceSums(shape, heads)
        self._first = 0
        self.voxels = 0
        self.totals = dict.fromkeys(("entropy", "margin", "max_probability", "soft_weight", "soft_entropy"), 0.0)
        # for softmax networks: indexed by the predicted class; for regions: background, foreground
        groups = 2 if regions else heads
        self.group_volume = np.zeros(groups, dtype=np.int64)
        self.group_entropy = np.zeros(groups)
        self.group_confidence = np.zeros(groups)
        self.class_volume = np.zeros(heads, dtype=np.int64)
        self.class_entropy = np.zeros(heads)
        self.entropy_histogram = np.zeros(entropy_bins, dtype=np.int64)
        self._highest_entropy = heads * math.log(2) if regions else math.log(max(heads, 2))

    def update(self, logits: Tensor, first: int = 0) -> None:
        """Add a slab.

        Args:
            logits: (C, ...) of any float dtype, on any device; whole slices of the first axis where sums over slices are taken.
            first: where the slab begins on the first axis.

        Raises:
            ValueError: a logit is NaN or infinite, so that no score could be trusted.
        """
        flat = logits.reshape(self.heads, -1).float()
        self._first = first
        entropy, margin, highest, weight, group = self._regions(flat) if self.regions else self._softmax(flat)
        totals = torch.stack(
            [entropy.sum(), margin.sum(), highest.sum(), weight.sum(), (weight * entropy).sum(), flat.sum()]
        ).tolist()
        if not all(map(math.isfinite, totals)):  # the sum of the logits: a sigmoid of an infinite one is finite
            raise ValueError("the network's output holds NaN or infinite values")
        for name, value in zip(self.totals, totals[:-1], strict=True):
            self.totals[name] += value
        self.voxels += flat.shape[1]
        size = len(self.group_volume)
        volume = torch.bincount(group, minlength=size).cpu().numpy()
        group_entropy = _sum_by_group(group, entropy, size)
        self.group_volume += volume
        self.group_entropy += group_entropy
        self.group_confidence += _sum_by_group(group, highest, size)
        foreground = None if self._slices is None else group.nonzero().flatten()
        if foreground is not None:
            self._slices.add_foreground(first, foreground)
        if not self.regions:
            self.class_volume += volume
            self.class_entropy += group_entropy
            if foreground is not None:
                self._slices.add_classes(first, foreground, group[foreground], entropy[foreground])
        if bins := len(self.entropy_histogram):
            which = (entropy * (bins / self._highest_entropy)).long().clamp_(0, bins - 1)
            self.entropy_histogram += torch.bincount(which, minlength=bins).cpu().numpy()

    def _softmax(self, flat: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        if self.heads == 2:  # one sigmoid instead of a softmax over two: the usual case of one target class
            difference = flat[1] - flat[0]
            foreground = torch.sigmoid(difference)
            background = torch.sigmoid(-difference)
            highest = torch.maximum(foreground, background)
            entropy = torch.special.entr(foreground) + torch.special.entr(background)
            return entropy, 2 * highest - 1, highest, foreground, (difference > 0).long()
        log_probabilities = torch.log_softmax(flat, 0)
        probabilities = log_probabilities.exp()
        entropy = -(probabilities * log_probabilities.clamp_min(_LOWEST_LOG)).sum(0)
        weight = 1 - probabilities[0]
        highest, label = probabilities.max(0)
        second = probabilities.scatter_(0, label[None], -1.0).amax(0)
        return entropy, highest - second, highest, weight, label

    def _regions(self, flat: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        probabilities = torch.sigmoid(flat)
        binary = torch.special.entr(probabilities) + torch.special.entr(1 - probabilities)
        predicted = probabilities > 0.5
        self.class_volume += predicted.sum(1).cpu().numpy()
        self.class_entropy += (binary * predicted).sum(1).cpu().double().numpy()
        if self._slices is not None:
            head, voxels = predicted.nonzero(as_tuple=True)
            self._slices.add_classes(self._first, voxels, head, binary[head, voxels])
        highest = torch.maximum(probabilities, 1 - probabilities).mean(0)
        return binary.sum(0), 2 * highest - 1, highest, probabilities.amax(0), predicted.any(0).long()

    def result(self, voxel_mm3: float) -> CaseScores:
        """The finished statistics.

        Args:
            voxel_mm3: volume of one voxel of the array that was scored, in mm³.

        Raises:
            ValueError: nothing was added.
        """
        if self.voxels == 0:
            raise ValueError("no voxel was scored")
        foreground = int(self.group_volume[1:].sum())
        classes = slice(0, None) if self.regions else slice(1, None)
        present = self.class_volume[classes] > 0
        per_class = self.class_entropy[classes][present] / self.class_volume[classes][present]
        weight = self.totals["soft_weight"]
        nothing = float("nan")
        scalars = {
            "mean_entropy": self.totals["entropy"] / self.voxels,
            "foreground_voxels": float(foreground),
            "foreground_mm3": foreground * voxel_mm3,
            "foreground_entropy": self.group_entropy[1:].sum() / foreground if foreground else nothing,
            "class_balanced_entropy": float(per_class.mean()) if len(per_class) else nothing,
            "soft_foreground_entropy": self.totals["soft_entropy"] / weight if weight > 0 else 0.0,
            "confidence": self.group_confidence[1:].sum() / foreground if foreground else nothing,
            "mean_margin": self.totals["margin"] / self.voxels,
            "mean_max_probability": self.totals["max_probability"] / self.voxels,
            "voxels": float(self.voxels),
        }
        arrays = {"class_volume": self.class_volume.copy()}
        if len(self.entropy_histogram):
            arrays["entropy_histogram"] = self.entropy_histogram.copy()
        slices = {} if self._slices is None else self._slices.arrays()
        return CaseScores({name: float(scalars[name]) for name in SCALARS}, arrays, slices)


def slabs(logits: Tensor) -> Iterator[slice]:
    """Slices of the first spatial axis of (C, Z, Y, X) that together cover it, each of few enough voxels to be quick."""
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
        entropy_bins: also take ``entropy_histogram``, of so many bins.

    Raises:
        ValueError: NaN or infinite logits, or an empty array.
    """
    if not logits.numel():
        raise ValueError("no voxel was scored")
    accumulator = ScoreAccumulator(logits.shape[0], regions, entropy_bins, tuple(logits.shape[1:]))
    for part in slabs(logits):
        accumulator.update(logits[:, part], part.start)
    return accumulator.result(voxel_mm3)
