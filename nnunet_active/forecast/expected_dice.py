r"""The Dice to expect of cases without a label, and how sure that is.

Without labels: ``f(x, c) = (s1 s2) ** 1.25``, s1 the mean pairwise Dice of the members
(:mod:`nnunet_active.scoring.member_agreement`), s2 the soft Dice confidence ``2 sum p m / (sum p + sum m)``. The plain product ranks
cases as well, but is too high, most of all where Dice is low. As the mean of a pool f was off by 0.10 where the product was by 0.14.

With labels it is put right by residuals ``r_i = Dice_i - f(x_i)`` of labelled cases, where Dice_i is that of a network which had not
seen the case. Over n residuals and a pool U, one label with r = 0 taken to be there already (``r_0``):

* mean Dice of the pool: ``D = mean_U f + sum r / (n + 1)``, with the interval ``D +- t_{n-1} sd(r_0 ... r_n) sqrt(1/(n + 1) + 1/|U|)``,
  from `LABELS_NEEDED` labels on (the difference estimator of survey sampling, shrunk: with so few labels its error is that of the draw)
* a case: f(x) moved by D - mean_U f, times ``n / (n + 2)``, between 0 and 1 (our choice).

A case in which nothing is predicted has f = 0: a shifted target leaves many scans empty, and without them the mean would be that of
the others. Where there is nothing to find that is too low; without a label nobody can tell.

The exponent and the one label were chosen on other target sets than they were judged on (``benchmarks/forecast_calibration.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LABELS_NEEDED = 3
COVERAGE = 0.9
EXPONENT = 1.25
PRIOR = 1
"""Labels that are taken to say that f is right."""
SHRINKAGE = 2
USUAL = 0.8
"""Share of the cases with a prediction that show a class from which on a case without it has probably lost it (our choice)."""


@dataclass(frozen=True)
class DiceEstimate:
    """Mean Dice of a pool.

    Attributes:
        mean: the estimate; below `LABELS_NEEDED` labels the uncalibrated one, NaN where nothing is known.
        low, high: where it lies with `COVERAGE`; NaN below `LABELS_NEEDED` labels.
        labels: how many labelled cases it rests on.
        uncalibrated: mean of f.
    """

    mean: float
    low: float
    high: float
    labels: int
    uncalibrated: float

    @property
    def calibrated(self) -> bool:
        """Whether there are enough labels, and a pool that they say something of."""
        return self.labels >= LABELS_NEEDED and bool(np.isfinite(self.mean))


def usual_classes(volume: np.ndarray) -> np.ndarray:
    """Which classes at least `USUAL` of the cases show in which anything is predicted, (C,) bool, from predicted voxels (n, C)."""
    shown = np.asarray(volume) > 0
    shown = shown[shown.any(-1)]  # else cases in which the network fails would say that a class need not be there
    return shown.mean(0) >= USUAL if len(shown) else np.zeros(shown.shape[1], dtype=bool)


def expected_classes(volume: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Which classes count in a case, (n, C) bool: those predicted and the usual ones; all of them where that leaves none.

    Args:
        volume: predicted voxels, (n, C).
        usual: (C,) bool, from :func:`usual_classes`.
    """
    counts = (np.asarray(volume) > 0) | np.asarray(usual)
    return counts | ~counts.any(-1, keepdims=True)


def quality(agreement: np.ndarray, confidence: np.ndarray, volume: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """f of every case and class, (n, C) float64; NaN where a class does not count, 0 where it counts and is not predicted.

    Args:
        agreement: s1, (n, C).
        confidence: s2, (n, C), 0 where nothing is predicted.
        volume, usual: as :func:`expected_classes` takes them.
    """
    found = (np.asarray(agreement, dtype=np.float64) * np.asarray(confidence, dtype=np.float64)) ** EXPONENT
    return np.where(expected_classes(volume, usual), found, np.nan)


def mean_of_classes(values: np.ndarray) -> np.ndarray:
    """Mean over the classes that count, (n,); NaN where none does."""
    counts = np.isfinite(values)
    total = np.where(counts, values, 0).sum(-1)
    return np.divide(total, counts.sum(-1), out=np.full(total.shape, np.nan), where=counts.any(-1))


def estimate_dice(pool: np.ndarray, known: np.ndarray, dice: np.ndarray, prior: int = PRIOR) -> DiceEstimate:
    """The mean Dice of a pool.

    Args:
        pool: f of every case of the pool, NaN where it is not known.
        known: f of the labelled cases.
        dice: their true Dice; a case with NaN in either does not count.
        prior: labels with r = 0 that are taken to be there already; 0 where f says nothing.

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
    """The Dice to expect of every case: f of the network that predicts, moved towards the estimate of the mean.

    Args:
        values: f of the pool, (n,), by the network that predicts; the estimate may rest on another one's f.
        estimate: of the same pool.
    """
    values = np.asarray(values, dtype=float)
    if not estimate.calibrated or not np.isfinite(values).any():
        return values
    move = (estimate.mean - np.nanmean(values)) * estimate.labels / (estimate.labels + SHRINKAGE)
    return np.clip(values + move, 0, 1)


def _finite(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    return values[np.isfinite(values)]
