"""Predicts whether the next labels will pay off, from the gain that earlier labels brought on unseen labelled cases.

Let d_i be the Dice of case i by the adapted network minus that by the source network; neither has seen the case. With n such cases:

* n < `LABELS_NEEDED`: too early to say
* mean d < `PAYS`: stop; labels have brought this recipe nothing so far
* else: label on

On 22 recorded campaigns (``benchmarks/forecast_stopping.py``), thresholds from 0 to 0.04 gave the same decisions, and a threshold
chosen on the other pairs lost nothing. The gain of the next label alone is not predicted: there, a fit of the learning curve (c - a /
k) was no better than a guess, and other pairs' curves were hardly better than predicting zero (``benchmarks/forecast_next_label.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnunet_active.forecast.expected_dice import COVERAGE, LABELS_NEEDED

PAYS = 0.02
STOP, ON, EARLY = "stop", "label on", "too early to say"


@dataclass(frozen=True)
class Outlook:
    """The verdict, with the gain that it is based on.

    Attributes:
        verdict: `STOP`, `ON` or `EARLY`.
        gain: mean d; NaN without a case.
        low, high: t interval of the mean with coverage `COVERAGE`; NaN with fewer than `LABELS_NEEDED` cases.
        cases: n.
    """

    verdict: str
    gain: float
    low: float
    high: float
    cases: int

    def lines(self) -> list[str]:
        """The verdict in sentences, for people."""
        many = f"{self.cases} case{'' if self.cases == 1 else 's'}"
        if self.verdict == EARLY:
            there = f"there {'is' if self.cases == 1 else 'are'} {self.cases}"
            return [
                f"Too early to say whether the next labels will pay: it takes {LABELS_NEEDED} labelled cases that the adapted network "
                f"had not seen, and {there}."
            ]
        gained = (
            f"On {many} that it had not seen, the adapted network gains {self.gain:+.3f} Dice on the source network "
            f"({COVERAGE:.0%} interval {self.low:+.3f} to {self.high:+.3f})."
        )
        if self.verdict == STOP:
            return [f"Stop: the next labels will not pay. {gained} Below {PAYS} they have not paid in our runs either."]
        return [f"Label on. {gained}"]


def outlook(gains: np.ndarray) -> Outlook:
    """The outlook from the differences.

    Args:
        gains: d of every case, (n,); NaN does not count.

    >>> outlook(np.array([0.1, 0.2, 0.0])).verdict
    'label on'
    """
    gains = np.asarray(gains, dtype=float)
    gains = gains[np.isfinite(gains)]
    n = len(gains)
    mean = float(gains.mean()) if n else np.nan
    if n < LABELS_NEEDED:
        return Outlook(EARLY, mean, np.nan, np.nan, n)
    from scipy.special import stdtrit  # not above: it takes a third of a second to import, for this one number

    half = float(stdtrit(n - 1, (1 + COVERAGE) / 2) * gains.std(ddof=1) / np.sqrt(n))
    return Outlook(STOP if mean < PAYS else ON, mean, mean - half, mean + half, n)
