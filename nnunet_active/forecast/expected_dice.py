r"""Estimates the Dice of cases without a label, with its uncertainty.

Without labels: ``f(x, c) = (s1 s2) ** 1.25``, where s1 is the mean pairwise Dice of the members
(:mod:`nnunet_active.scoring.member_agreement`) and s2 the soft Dice confidence ``2 sum p m / (sum p + sum m)``. The plain product ranks
cases as well as f, but is too high, above all where Dice is low. Averaged over a pool, f was off by 0.10, the product by 0.14.

With labels, f is corrected by the residuals ``r_i = Dice_i - f(x_i)`` of labelled cases; Dice_i is that of a network that had not seen
the case. Let n be the number of residuals and U the pool. One label with residual 0 (``r_0``) counts as known from the start:

* mean Dice of the pool: ``D = mean_U f + sum r / (n + 1)``, with the interval ``D +- t_{n-1} sd(r_0 ... r_n) sqrt(1/(n + 1) + 1/|U|)``,
  from `LABELS_NEEDED` labels on (the difference estimator of survey sampling, shrunk: with so few labels its error is that of the draw)
* one case: f(x), moved by D - mean_U f times ``n / (n + 2)``, kept between 0 and 1 (our choice).

A case with an empty prediction has f = 0. After a domain shift many scans come out empty, and without them the mean would only describe
the others. If there is nothing to find, 0 is too low, but without a label nobody can tell.

The exponent and the one label were chosen and evaluated on different target sets (``benchmarks/forecast_calibration.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LABELS_NEEDED = 3
COVERAGE = 0.9
EXPONENT = 1.25
PRIOR = 1
"""Number of labels with residual 0 that count as known from the start."""
SHRINKAGE = 2
USUAL = 0.8
"""If at least this share of the non-empty predictions shows a class, a case without it has probably lost it (our choice)."""


@dataclass(frozen=True)
class DiceEstimate:
    """Mean Dice of a pool.

    Attributes:
        mean: the estimate; with fewer than `LABELS_NEEDED` labels the uncalibrated one; NaN if nothing is known.
        low, high: interval with coverage `COVERAGE`; NaN with fewer than `LABELS_NEEDED` labels.
        labels: number of labelled cases that it is based on.
        uncalibrated: mean of f.
    """

    mean: float
    low: float
    high: float
    labels: int
    uncalibrated: float

    @property
    def calibrated(self) -> bool:
        """Whether there are enough labels, and a pool to estimate."""
        return self.labels >= LABELS_NEEDED and bool(np.isfinite(self.mean))


def usual_classes(volume: np.ndarray) -> np.ndarray:
    """Classes that at least `USUAL` of the non-empty predictions show, (C,) bool, from predicted voxels (n, C)."""
    shown = np.asarray(volume) > 0
    shown = shown[shown.any(-1)]  # without empty predictions, where the network failed
    return shown.mean(0) >= USUAL if len(shown) else np.zeros(shown.shape[1], dtype=bool)


def expected_classes(volume: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Classes that count in each case, (n, C) bool: the predicted and the usual ones; if there are none of these, all.

    Args:
        volume: predicted voxels, (n, C).
        usual: (C,) bool, from :func:`usual_classes`.
    """
    counts = (np.asarray(volume) > 0) | np.asarray(usual)
    return counts | ~counts.any(-1, keepdims=True)


def quality(agreement: np.ndarray, confidence: np.ndarray, volume: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """f of every case and class, (n, C) float64; NaN if a class does not count, 0 if it counts but is not predicted.

    Args:
        agreement: s1, (n, C).
        confidence: s2, (n, C), 0 where nothing is predicted.
        volume, usual: see :func:`expected_classes`.
    """
    found = (np.asarray(agreement, dtype=np.float64) * np.asarray(confidence, dtype=np.float64)) ** EXPONENT
    return np.where(expected_classes(volume, usual), found, np.nan)


def mean_of_classes(values: np.ndarray) -> np.ndarray:
    """Mean over the classes that count, (n,); NaN if none does."""
    counts = np.isfinite(values)
    total = np.where(counts, values, 0).sum(-1)
    return np.divide(total, counts.sum(-1), out=np.full(total.shape, np.nan), where=counts.any(-1))


def estimate_dice(pool: np.ndarray, known: np.ndarray, dice: np.ndarray, prior: int = PRIOR) -> DiceEstimate:
    """The mean Dice of a pool.

    Args:
        pool: f of every case of the pool; NaN if not known.
        known: f of the labelled cases.
        dice: their true Dice; a case with NaN in either does not count.
        prior: number of labels with r = 0 that count as known from the start; 0 if f is meaningless.

    >>> found = estimate_dice([0.9, 0.8], [0.9, 0.8, 0.9], [0.7, 0.6, 0.7])
    >>> round(found.mean, 3), round(found.high - found.low, 3)
    (0.7, 0.506)
    """
    pool, residuals = _finite(pool), _finite(np.asarray(dice, dtype=float) - np.asarray(known, dtype=float))
    uncalibrated, n = float(pool.mean()) if len(pool) else np.nan, len(residuals)
    if n < LABELS_NEEDED or not len(pool):
        return DiceEstimate(uncalibrated, np.nan, np.nan, n, uncalibrated)
    from scipy.special import stdtrit  # not above: it takes a third of a second to import, for this one number

    residuals = np.append(residuals, np.zeros(prior))
    t = stdtrit(n - 1, (1 + COVERAGE) / 2)
    half = t * residuals.std(ddof=1) * np.sqrt(1 / len(residuals) + 1 / len(pool))
    mean, low, high = np.clip(uncalibrated + residuals.mean() + np.array([0, -half, half]), 0, 1)
    return DiceEstimate(float(mean), float(low), float(high), n, uncalibrated)


def calibrated(values: np.ndarray, estimate: DiceEstimate) -> np.ndarray:
    """The expected Dice of every case: f of the predicting network, moved towards the estimated mean.

    Args:
        values: f of the pool, (n,), by the predicting network; the estimate may be based on another network's f.
        estimate: estimate for the same pool.
    """
    values = np.asarray(values, dtype=float)
    if not estimate.calibrated or not np.isfinite(values).any():
        return values
    move = (estimate.mean - np.nanmean(values)) * estimate.labels / (estimate.labels + SHRINKAGE)
    return np.clip(values + move, 0, 1)


def _finite(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    return values[np.isfinite(values)]
