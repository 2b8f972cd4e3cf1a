r"""Mixes labelled and unlabelled samples: strong views, boxes, and which of the teacher's guesses count. Works on tensors only.

Let p be the teacher's probabilities of an unlabelled sample. Its guess is the arg-max (regions: p > 0.5, each region separately), and
the confidence is the probability of the guess. A voxel counts if

    confidence >= min(`CEILING`, q),

where q is the `QUANTILE` of the source network's confidences over the pool, for the guessed class. One fixed threshold would leave out
faint structures, of which a network is never sure; with q, at least two fifths of every class count. For regions, q is taken separately
inside and outside the region, and a voxel counts if all its regions do.

A strong view x' of the unlabelled sample changes only intensities, so the guess still holds. With a box M in each sample, the mixed
samples are M x + (1 - M) x' and (1 - M) x + M x'; labels and the voxels that count are mixed in the same way.

Sources: UniMatch (arXiv 2208.09910), weak view to strong view; BCP (arXiv 2305.00673), boxes both ways; the thresholds are our choice.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate as resized

from nnunet_active.scoring.ensemble import head_probabilities

CEILING, QUANTILE = 0.95, 0.6
SMALLEST, LARGEST = 0.25, 0.5
"""Share of the patch that a box takes."""
_BINS = 2000  # of confidences between 0 and 1


class ConfidenceCounts:
    """Counts how confident a network is of each class, and gives the thresholds.

    Args:
        heads: C, the number of classes with the background, or of regions.
        regions: sigmoid heads instead of a softmax.
    """

    def __init__(self, heads: int, regions: bool) -> None:
        self.heads, self.regions = heads, regions
        self.counts = torch.zeros((2 * heads if regions else heads) * _BINS, dtype=torch.int64)

    def add(self, logits: Tensor) -> None:
        """Count the voxels of one image, or of a part of it: logits (C, ...)."""
        p = head_probabilities(logits, self.regions).flatten(1)
        if self.regions:
            guess = p > 0.5
            confidence = torch.where(guess, p, 1 - p)
            group = guess * self.heads + torch.arange(self.heads, device=p.device)[:, None]
        else:
            confidence, group = p.max(0)
        where = group * _BINS + (confidence * _BINS).long().clamp(max=_BINS - 1)
        self.counts += torch.bincount(where.flatten(), minlength=len(self.counts)).cpu()

    def thresholds(self) -> Tensor:
        """min(`CEILING`, q), float32: (C,), or (2, C) for outside and inside of regions; `CEILING` if a class was never guessed.

        q is the lower end of the bin (1/2000 wide) that holds the quantile.
        """
        counts = self.counts.reshape(-1, _BINS)
        below = counts.cumsum(1)
        first = (below >= QUANTILE * below[:, -1:]).long().argmax(1)
        q = torch.where(below[:, -1] > 0, first / _BINS, 1.0).clamp(max=CEILING)
        return q.reshape(2, self.heads) if self.regions else q


def sure_guess(p: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
    """The teacher's guess, and which voxels count.

    Args:
        p: probabilities (N, C, ...).
        thresholds: from :class:`ConfidenceCounts`, on the device of ``p``.

    Returns:
        The guess, (N, 1, ...) int64, or (N, C, ...) bool for regions; and the voxels that count, (N, 1, ...) bool.
    """
    if thresholds.ndim == 1:
        confidence, guess = p.max(1, keepdim=True)
        return guess, confidence >= thresholds[guess]
    outside, inside = thresholds.reshape(2, 1, -1, *[1] * (p.ndim - 2))
    guess = p > 0.5
    sure = torch.where(guess, p, 1 - p) >= torch.where(guess, inside, outside)
    return guess, sure.all(1, keepdim=True)


def boxes(shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """One box per sample, at a random place, with the patch's proportions and `SMALLEST` to `LARGEST` of its volume.

    Args:
        shape: (N, channels, ...), in 2-D or 3-D.
        device: device of the result.

    Returns:
        (N, 1, ...) bool, true inside.
    """
    n, _, *sizes = shape
    inside = torch.zeros(n, 1, *sizes, dtype=torch.bool)
    for box, (size, *places) in zip(inside, torch.rand(n, 1 + len(sizes)).tolist(), strict=True):
        side = (SMALLEST + (LARGEST - SMALLEST) * size) ** (1 / len(sizes))
        lengths = [max(1, round(side * length)) for length in sizes]
        starts = [
            int(place * (whole - length + 1)) for place, whole, length in zip(places, sizes, lengths, strict=True)
        ]
        box[(0, *(slice(first, first + length) for first, length in zip(starts, lengths, strict=True)))] = True
    return inside.to(device)


def strong_view(x: Tensor, keep_zeros: bool = False) -> Tensor:
    """Adds brightness, contrast, gamma and noise to nnU-Net's own augmentation, each for about half of the samples and channels.

    The ranges are those of nnU-Net's training (noise up to a variance of 0.1).

    Args:
        x: samples (N, channels, ...) of any floating-point dtype, in 2-D or 3-D.
        keep_zeros: keep zeros at 0, for images that are set to 0 outside a mask.
    """
    axes = tuple(range(2, x.ndim))

    def sometimes(probability: float, low: float, high: float, otherwise: float) -> Tensor:
        drawn, hit = torch.rand(2, *x.shape[:2])
        value = torch.where(hit < probability, low + (high - low) * drawn, otherwise)
        return value.reshape(*x.shape[:2], *[1] * len(axes)).to(x)

    changed = x * sometimes(0.5, 0.75, 1.25, 1.0)
    mean = changed.mean(axes, keepdim=True)
    changed = (changed - mean) * sometimes(0.5, 0.75, 1.25, 1.0) + mean
    low, high = changed.amin(axes, keepdim=True), changed.amax(axes, keepdim=True)
    share = ((changed - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
    changed = share ** sometimes(0.8, 0.7, 1.5, 1.0) * (high - low) + low
    changed = changed + sometimes(0.5, 0.0, 0.1, 0.0).sqrt() * torch.randn_like(x)
    return torch.where(x == 0, x, changed) if keep_zeros else changed


def mixed_target(inside: Tensor, labelled: Tensor, guess: Tensor, sure: Tensor, ignored: int | None) -> Tensor:
    """The target of a mixed sample for nnU-Net's losses: label inside the boxes, guess outside, and ignore where neither counts.

    Args:
        inside: (N, 1, ...) bool.
        labelled: nnU-Net's target at full resolution: (N, 1, ...) label values; or (N, C, ...) regions, plus a last channel for
            ignored voxels if the data set has an ignore label.
        guess: from :func:`sure_guess`.
        sure: which guesses count.
        ignored: value of the ignore label; None for regions, which have a channel for it.

    Returns:
        (N, 1, ...) of the labels' dtype, or (N, C + 1, ...) bool.
    """
    if ignored is not None:
        known = torch.where(inside, labelled != ignored, sure)
        return torch.where(known, torch.where(inside, labelled, guess.to(labelled.dtype)), ignored)
    heads = guess.shape[1]
    unknown = labelled[:, heads:].bool() if labelled.shape[1] > heads else torch.zeros_like(sure)
    mixed = torch.where(inside, labelled[:, :heads].bool(), guess)
    return torch.cat([mixed, torch.where(inside, unknown, ~sure)], 1)


def at_scales(target: Tensor, like: Tensor | Sequence[Tensor]) -> Tensor | list[Tensor]:
    """The target at the size of every deep supervision output, resampled to the nearest voxel as nnU-Net's augmentation does.

    Args:
        target: (N, C, ...).
        like: nnU-Net's own targets, which give the sizes; one tensor if there is no deep supervision.
    """
    if isinstance(like, Tensor):
        return target
    sizes = [tuple(one.shape[2:]) for one in like]
    return [
        target
        if size == tuple(target.shape[2:])
        else resized(target.float(), size, mode="nearest-exact").to(target.dtype)
        for size in sizes
    ]
