r"""Weights labelled cases by how many cases of the pool each one stands for, if its probability of being drawn was recorded.

Some strategies divide the pool into K parts and draw within each part with unequal probabilities p. They record part and probability in
``scores.csv`` of the round (``strata``: columns ``cluster`` and ``probability``; ``foreground_random`` has no parts: K = 1). An equal
draw among the N / K candidates of a part would have had the probability K / N (without parts: 1 / (N - k) after k picks). So case i
stands for r_i cases (Horvitz & Thompson, JASA 1952) and gets the weight w_i:

    r_i = K / (N p_i),
    w_i = c_i / mean(c),     c_i = min(max(r_i, 1 / `CAP`), `CAP`).

r is 1 where nothing is recorded: for labels from before the first round, for strategies that draw with equal chances, and in rounds
for which the user named cases (``must_include``). The cap keeps one rare pick from deciding alone. Of 2, 3, 4 and no cap, 2 had the
smallest mean square error over simulated pools whose typical cases gain more.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from nnunet_active.campaign.campaign_round import PROBABILITY, Round
from nnunet_active.util.errors import CampaignError
from nnunet_active.util.log import Log

CAP = 2.0
PART = "component_cluster"


def weights_of(rarities: pd.Series) -> pd.Series:
    """w of the formula above: mean 1, and exactly 1 for each case if all are equal.

    Args:
        rarities: r, above 0.

    >>> weights_of(pd.Series([0.5, 1.5, 9.0])).round(3).tolist()
    [0.375, 1.125, 1.5]
    """
    capped = rarities.clip(1 / CAP, CAP)
    return capped / capped.mean() if capped.nunique() > 1 else capped * 0 + 1.0


def rarities_of(made: Round) -> dict[str, float]:
    """r of every case that the round asked for; empty if the round recorded no probabilities.

    Raises:
        CampaignError: its files are damaged.
    """
    table, asked = made.scores(), list(made.requested)
    if PROBABILITY not in table or made.selection().get("must_include"):
        return {}
    candidates = table[table[PROBABILITY].notna()]  # only one scan of each patient is a candidate
    parts = candidates[PART].nunique() if PART in table else 1
    equal = parts / (len(candidates) - np.arange(len(asked)) * (parts == 1))
    drawn = table.loc[asked, PROBABILITY]
    return (equal / drawn)[drawn > 0].round(9).to_dict()  # rounding: equal chances stay equal despite float sums


def case_weights(rounds: Iterable[Round], cases: Iterable[str], log: Log) -> pd.Series:
    """w of each case, from the first round that asked for it.

    Args:
        rounds: the campaign's rounds, in order.
        cases: the cases to weight.
        log: gets a warning for each round with damaged files; its cases then count with r = 1.
    """
    known = dict.fromkeys(cases, 1.0)
    open_ = set(known)
    for made in rounds:
        here = open_ & set(made.requested)
        open_ -= here
        if not here:
            continue
        try:
            found = rarities_of(made)
        except CampaignError as error:
            log(
                f"WARNING: cases of round {made.number} get no weights of their own, since it is not known how they were drawn: {error}"
            )
            continue
        known.update((case, found[case]) for case in here & set(found))
    return weights_of(pd.Series(known, dtype=float))
