"""Chooses the interpolation alpha by Dice on the held-out cases, before every query and at the end of the training.

Candidates are w0 + alpha (v - w0) for alpha in `ALPHAS` (:mod:`~nnunet_active.training.adaptation`): 0 is the source network, 1 the
fine-tuned one. Let D(alpha, i) be the Dice of held-out case i, b the alpha with the highest mean Dice, and
d(alpha, i) = D(b, i) - D(alpha, i). The rule takes the smallest alpha with

    mean_i d(alpha, i) <= sd_i d(alpha, i) / sqrt(n).

This is the network nearest to the source that is worse than the best one by at most one standard error of the difference. (One
standard error: Breiman, Friedman, Olshen, Stone, Classification and Regression Trees, 1984, section 3.4.3; paired differences: our
choice.) So the network leaves the source only as far as the held-out cases justify. If they show no gain, the source network itself
predicts. ``docs/measured.md`` says how well that works with three cases.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from nnunet_active.campaign.fine_tuning import FEWEST
from nnunet_active.training.alpha_choice import AlphaChoice, model_at
from nnunet_active.training.comparison_table import HELD_OUT, dice_by_case
from nnunet_active.training.earlier_training import EarlierTraining
from nnunet_active.training.source_watch import judging

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)


def nearest_within_one_standard_error(dice: pd.DataFrame) -> float:
    """The rule above.

    Args:
        dice: one row per case, one column per alpha in ascending order; at least two rows, no missing value.

    >>> nearest_within_one_standard_error(pd.DataFrame({0.0: [0.5, 0.7], 0.5: [0.6, 0.6], 1.0: [0.9, 0.8]}))
    1.0
    """
    best = dice.mean().idxmax()  # on a tie the first, which is nearest to the source
    behind = dice.rsub(dice[best], axis=0)
    allowed = behind.std(ddof=1) / np.sqrt(len(dice))
    return float((behind.mean() <= allowed + 1e-12).idxmax())


class HeldOutChoice(AlphaChoice):
    """Sets the interpolation of a training by the rule above; see :class:`~nnunet_active.training.alpha_choice.AlphaChoice`."""

    def begin(self, epoch: int, earlier_one: Callable[[], EarlierTraining | None]) -> None:
        """Warn if too few cases are held out to choose by."""
        if (number := len(judging(self.session, self.session.held_out(0)))) < FEWEST:
            self.session.log(
                f"WARNING: the interpolation was to be chosen by held-out cases, but {number} labelled cases are held out and it "
                f"takes {FEWEST}; predictions are by weights {self.adaptation.interpolation:.0%} of the way from the source to the "
                f"fine-tuned. The val of the fold in splits_final.json holds cases out."
            )

    def choose(self, epoch: int) -> None:
        """Measure the candidates and choose one, unless too few cases are held out; see :meth:`AlphaChoice.choose`."""
        cases = judging(self.session, self.session.held_out(epoch))
        if epoch == 0 or len(cases) < FEWEST:
            return
        self.measure_alphas(epoch, cases, HELD_OUT, ALPHAS)
        rows = self.comparison.held_out(self.session.trained_on(epoch)[0], epoch)
        dice = dice_by_case(rows, list(map(model_at, ALPHAS))).set_axis(ALPHAS, axis=1)
        if len(dice) < FEWEST:
            self.session.log(
                f"WARNING: {len(dice)} of the held-out cases show any class of the target, too few to choose the interpolation by; it "
                f"stays at {self.adaptation.interpolation:g}."
            )
            return
        chosen = self.adaptation.interpolation = nearest_within_one_standard_error(dice)
        found = ", ".join(f"{alpha:g}: {value:.4f}" for alpha, value in dice.mean().items())
        said = (
            f"Mean Dice of {len(dice)} held-out cases by how far the weights are from the source (0) to the fine-tuned (1): {found}. "
            f"Predictions are by {chosen:g} from here on, the nearest to the source within one standard error of the best."
        )
        if self.adaptation.is_source:
            said += " That is the source network itself: the held-out cases do not show that fine-tuning helps."
        self.note(epoch, said, chosen=chosen, dice={f"{a:g}": d for a, d in dice.mean().items()})
