"""Tests whether one way is better than another, and how certain that is: paired tests, corrected for their number; bootstrap ranks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata, wilcoxon

DIGITS = 12
"""Differences are rounded to so many digits: the rounding of a mean is no difference."""


def paired(values: pd.DataFrame, unit: Sequence[str], column: str, ways: Sequence[str]) -> pd.DataFrame:
    """One row per unit that every way has, one column per way.

    Args:
        values: one row per way and unit (several rows are averaged).
        unit: columns that make a unit.
        column: what is compared.
        ways: which ways.
    """
    table = values.pivot_table(index=list(unit), columns="way", values=column, aggfunc="mean")
    return table.reindex(columns=list(ways)).dropna()


def win_matrix(table: pd.DataFrame) -> pd.DataFrame:
    """Share of the units in which the row's way is better than the column's; a tie counts half; NaN on the diagonal."""
    values = table.to_numpy()
    if not len(values):
        return pd.DataFrame(np.nan, table.columns, table.columns)
    wins = (np.sign((values[:, :, None] - values[:, None, :]).round(DIGITS)) / 2 + 0.5).mean(axis=0)
    np.fill_diagonal(wins, np.nan)
    return pd.DataFrame(wins, table.columns, table.columns)


def pairwise_tests(table: pd.DataFrame) -> pd.DataFrame:
    """Wilcoxon's signed-rank test (two-sided) for every pair of ways, and its p-value after Holm's correction over all pairs.

    With n units that differ, p cannot be below 2 / 2**n: three seeds on one fold can never show a difference (p >= 0.25), six can
    (0.03). Units that do not differ, as where both ways chose the same cases, say nothing.

    Returns:
        One row per pair: ``first``, ``second``, ``n``, ``difference`` (mean of first - second), ``p``, ``p_holm``, ``smallest_p``.
    """
    names = list(table.columns)
    lines = []
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            difference = (table[first] - table[second]).to_numpy().round(DIGITS)
            n, differing = len(difference), difference[difference != 0]
            # without the zeros, for which scipy would give up the exact distribution
            p = float(wilcoxon(differing, method="auto").pvalue) if len(differing) else 1.0
            lines.append(
                {
                    "first": first,
                    "second": second,
                    "n": n,
                    "difference": float(difference.mean()) if n else np.nan,
                    "p": p,
                    "smallest_p": min(1.0, 2.0 ** (1 - len(differing))),
                }
            )
    tests = pd.DataFrame(lines, columns=["first", "second", "n", "difference", "p", "smallest_p"])
    return tests.assign(p_holm=holm(tests["p"].to_numpy()))


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down correction: p_(i) becomes max over j <= i of (m - j + 1) p_(j), at most 1 (Holm, 1979).

    >>> holm(np.array([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, dtype=float)
    order = np.argsort(p, kind="stable")
    factors = np.arange(len(p), 0, -1)
    corrected = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    out = np.empty_like(corrected)
    out[order] = corrected
    return out


def bootstrap_ranks(table: pd.DataFrame, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Ranks of the ways by their mean over units drawn with replacement (1 is the best, ties share).

    Returns:
        One row per way: ``rank`` (mean over the draws), ``low`` and ``high`` (2.5 % and 97.5 %), ``first`` (share of the draws in
        which it is the best or ties for it); the best first. Empty if there is no unit.
    """
    values = table.to_numpy()
    columns = ["way", "rank", "low", "high", "first"]
    if not values.size:
        return pd.DataFrame(columns=columns)
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, len(values), size=(draws, len(values)))
    means = values[chosen].mean(axis=1)
    ranks = rankdata(-means.round(DIGITS), axis=1, method="average")
    best = means.round(DIGITS) == means.round(DIGITS).max(axis=1, keepdims=True)
    low, high = np.percentile(ranks, [2.5, 97.5], axis=0)
    found = pd.DataFrame(
        {"way": table.columns, "rank": ranks.mean(axis=0), "low": low, "high": high, "first": best.mean(axis=0)}
    )
    return found[columns].sort_values("rank", ignore_index=True)
