"""Two or three scans labelled one by one: how near could any rule of the gate's kind come to the best fixed way, and harm nobody?

    python benchmarks/single_label_rules.py

Reads ``results/interpolation_cardiac.csv`` and ``interpolation_glioma.csv`` (``foreground_random``). A rule takes 0.75 of the way
where m(0.75) > a and m(0.25) > b, else 0.5 where m(0.5) > c and m(0.25) > d, else 0.25 where m(0.25) >= e, else the source; m as in
``guarded_choice``. The thresholds are fitted to these very networks, so that the answer is a bound, not a promise. With ``more judges``
the first case is judged as well, as by a network that leaves it out; how that would end is taken from the other runs of the same pool
at the same number of labels, each in turn.

Printed per number of labels: how far today's rule is behind 0.75 on hearts, which share of the glioma networks it harms by more than
0.005, and the worst change there; and the same of the rule that is least behind, of those that harm at most 5 %, and none by more
than 0.03.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from nnunet_active.training.guarded_choice import gate, shrunk_gains

RESULTS = Path(__file__).parent / "results"
ALPHAS = [0.0, 0.25, 0.5, 0.75]
GRID = (
    (0.03, 0.05, 0.08, 0.1),
    (-9.0, 0.0, 0.02, 0.035, 0.05),
    (0.0, 0.02, 0.03, 0.05, 0.08),
    (-9.0, 0.0, 0.01, 0.02, 0.035, 0.05),
    (-9.0, -0.01, 0.0, 0.01, 0.02, 0.03),
)
OFTEN, WORSE, FAR = 0.05, 0.005, 0.03
Network = tuple[pd.DataFrame, np.ndarray]
"""Dice of the cases that judge (a column per alpha), and the change of Dice at each alpha."""


def networks(pair: str, labels: int, more_judges: bool) -> Iterator[Network]:
    """Every network with so many labels."""
    table = pd.read_csv(RESULTS / f"interpolation_{pair}.csv")
    runs = {key: run for key, run in table[table["arm"] == "foreground_random"].groupby(["fold", "seed"])}
    dice = {key: run.pivot(index="labels", columns="alpha", values="dice")[ALPHAS] for key, run in runs.items()}
    told = {key: run.pivot(index="labels", columns="alpha", values="next_dice")[ALPHAS] for key, run in runs.items()}
    for key in runs:
        judges = told[key].loc[1 : labels - 1]
        change = (dice[key].loc[labels] - dice[key].loc[labels, 0.0]).to_numpy()
        if not more_judges:
            yield judges, change
            continue
        for other in runs:
            if other != key and other[0] == key[0]:
                yield pd.concat([judges, told[other].loc[[labels - 1]]]), change


def changes(found: list[Network], rule: Callable[[pd.DataFrame], float]) -> np.ndarray:
    """Change of Dice of every network at the alpha that a rule takes."""
    return np.array([change[ALPHAS.index(rule(judges))] for judges, change in found])


def fitted(gains: np.ndarray, thresholds: tuple[float, ...]) -> np.ndarray:
    """Position of the alpha that a rule takes, for each row of m (n, alphas)."""
    a, b, c, d, e = thresholds
    quarter, half, most = gains[:, 1], gains[:, 2], gains[:, 3]
    opens = [(most > a) & (quarter > b), (half > c) & (quarter > d), quarter >= e]
    return np.select(opens, [3, 2, 1], 0)


def least_behind(labels: int, more_judges: bool = False) -> pd.DataFrame:
    """What today's rule and the best fitted one cost and harm; rows ``today``, ``fitted``, columns ``behind``, ``worse``, ``worst``."""
    hearts, glioma = ([*networks(pair, labels, more_judges)] for pair in ("cardiac", "glioma"))
    best = np.mean([change[-1] for _, change in hearts])

    def told(of_hearts: np.ndarray, of_glioma: np.ndarray) -> tuple[float, float, float]:
        return float(best - of_hearts.mean()), float((of_glioma < -WORSE).mean()), float(of_glioma.min())

    today = told(*(changes(one, lambda judges: gate(judges, labels)) for one in (hearts, glioma)))
    m = [np.array([shrunk_gains(judges) for judges, _ in one]) for one in (hearts, glioma)]
    change = [np.array([of_one for _, of_one in one]) for one in (hearts, glioma)]
    every = (
        told(*(c[np.arange(len(c)), fitted(gains, thresholds)] for c, gains in zip(change, m, strict=True)))
        for thresholds in product(*GRID)
    )
    found = min(one for one in every if one[1] <= OFTEN and one[2] >= -FAR)
    return pd.DataFrame([today, found], index=["today", "fitted"], columns=["behind", "worse", "worst"])


def main() -> None:
    """A table per number of labels, with and without more judges."""
    for more_judges, labels in product((False, True), (2, 3)):
        print(f"{labels} labels{', more judges' if more_judges else ''}")
        print(least_behind(labels, more_judges).round(3).to_string())


if __name__ == "__main__":
    main()
