"""What a benchmark's rows show for each way of adapting: learning curves, areas, gaps closed, foreground efficiency, harm.

A *way* is an arm with a recipe. Ways are paired by *unit*: one data set, fold and seed.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from nnunet_active.benchmark.configuration import ALL_LABELS, SOURCE
from nnunet_active.benchmark.results import DISTANCE

UNIT = ["dataset", "configuration", "fold", "seed"]
MEAN = "mean"
SMALLEST_GAP = 0.02
"""If source and all labels are closer than this (Dice), the share of the gap means nothing and is left out (our choice)."""

LARGEST_RATE = 200.0


def with_ways(rows: pd.DataFrame) -> pd.DataFrame:
    """Add the column ``way``: the arm, plus the recipe if there are several."""
    ours = rows[rows["arm"] != SOURCE]
    several = ours["recipe"].nunique() > 1
    named = rows["arm"] + (" / " + rows["recipe"] if several else "")
    return rows.assign(way=named.where(rows["arm"] != SOURCE, SOURCE))


def strategies(rows: pd.DataFrame) -> list[str]:
    """The ways that chose cases, in the order of the rows."""
    return list(dict.fromkeys(rows.loc[~rows["arm"].isin([SOURCE, ALL_LABELS]), "way"]))


def _of_class(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    return rows[rows["class"] == name]


def curves(rows: pd.DataFrame, metric: str = "dice", name: str = MEAN) -> pd.DataFrame:
    """Mean and spread over units: one row per way and number of labels (``mean``, ``std`` with n - 1, ``min``, ``max``, ``n``)."""
    grouped = _of_class(rows, name).groupby(["way", "labels"], sort=False)[metric]
    return grouped.agg(["mean", "std", "min", "max", "count"]).rename(columns={"count": "n"}).reset_index()


def references(rows: pd.DataFrame, metric: str = "dice", name: str = MEAN) -> pd.DataFrame:
    """For each run that adapted: the source's value on its fold (``source``) and all labels' (``all``, same seed and recipe)."""
    table = _of_class(rows, name)
    place = ["dataset", "configuration", "fold"]
    source = table[table["arm"] == SOURCE].set_index(place)[metric].rename(SOURCE)
    full = table[table["arm"] == ALL_LABELS].groupby([*UNIT, "recipe"])[metric].mean().rename("all")
    runs = table[table["arm"] != SOURCE].join(source, on=place).join(full, on=[*UNIT, "recipe"])
    return runs.rename(columns={metric: "value"})


def budget_area(labels: np.ndarray, values: np.ndarray) -> float:
    """Area under the budget curve, divided by its width: the mean height between the first and the last number of labels.

    NaN for a single point at more than one label, as with one-off choices.

    >>> budget_area(np.array([1, 2, 3]), np.array([0.5, 0.7, 0.7]))
    0.65
    """
    order = np.argsort(labels)
    x, y = np.asarray(labels, float)[order], np.asarray(values, float)[order]
    if len(x) == 1:
        return float(y[0]) if x[0] == 1 else float("nan")
    return float(np.round(np.trapezoid(y, x) / (x[-1] - x[0]), 12))


def foreground_rate(share: np.ndarray, values: np.ndarray, source: np.ndarray, full: np.ndarray) -> float:
    """Foreground efficiency: how fast the gap closes with the outlined share of the pool's foreground.

    Least-squares gamma >= 0 of ``full - (full - source) exp(-gamma share)``. After nnActive (arXiv 2511.19183), where the curve
    begins at a first random set of labels; here it begins at the source model without labels (our reading). 0: no gap was closed.
    """
    gap = full - source
    usable = np.isfinite(share) & np.isfinite(values) & (gap > SMALLEST_GAP)
    if not usable.any():
        return float("nan")

    def error(rate: float) -> float:
        return float((((full - gap * np.exp(-rate * share)) - values)[usable] ** 2).sum())

    # far from the best rate the error is flat, so a search alone would not find it
    rates = np.r_[0.0, np.geomspace(0.001, LARGEST_RATE, 200)]
    errors = [error(rate) for rate in rates]
    best = int(np.argmin(errors))
    beside = rates[max(best - 1, 0)], rates[min(best + 1, len(rates) - 1)]
    refined = float(minimize_scalar(error, bounds=beside, method="bounded").x)
    return refined if error(refined) < errors[best] else float(rates[best])


def per_run(rows: pd.DataFrame, metric: str = "dice") -> pd.DataFrame:
    """One row per way and unit: ``final``, ``area``, ``source``, ``all`` and ``gap`` (share closed, source to all)."""
    table = references(rows, metric)
    table = table[table["arm"] != ALL_LABELS]
    found = []
    for key, run in table.groupby(["way", *UNIT], sort=False):
        last = run.loc[run["labels"].idxmax()]
        gap = last["all"] - last[SOURCE]
        found.append(
            {
                **dict(zip(["way", *UNIT], key, strict=True)),
                "labels": int(last["labels"]),
                "final": last["value"],
                "area": budget_area(run["labels"].to_numpy(), run["value"].to_numpy()),
                SOURCE: last[SOURCE],
                "all": last["all"],
                "gap": (last["value"] - last[SOURCE]) / gap if gap > SMALLEST_GAP else np.nan,
            }
        )
    return pd.DataFrame(found)


def overview(rows: pd.DataFrame, metric: str = "dice") -> pd.DataFrame:
    """One row per way: means and spreads of final value and area, gap closed, foreground efficiency; the best final value first."""
    runs, table = per_run(rows, metric), references(rows, metric)
    lines = []
    for way, group in runs.groupby("way", sort=False):
        mine = table[table["way"] == way]
        rate = foreground_rate(
            *(mine[column].to_numpy(float) for column in ("foreground_share", "value", SOURCE, "all"))
        )
        lines.append(
            {
                "way": way,
                "runs": len(group),
                "labels": int(group["labels"].max()),
                "final": group["final"].mean(),
                "final_std": group["final"].std(),
                "area": group["area"].mean(),
                "area_std": group["area"].std(),
                # of the means, because a single run with a small gap would dominate the mean of the shares
                "gap": _share(group),
                "foreground_share": mine.loc[
                    mine["labels"] == mine.groupby(UNIT)["labels"].transform("max"), "foreground_share"
                ].mean(),
                "foreground_efficiency": rate,
            }
        )
    return pd.DataFrame(lines).sort_values("final", ascending=False, ignore_index=True)


def _share(group: pd.DataFrame) -> float:
    known = group.dropna(subset=["all", SOURCE])
    gap = (known["all"] - known[SOURCE]).mean()
    return float((known["final"] - known[SOURCE]).mean() / gap) if gap > SMALLEST_GAP else float("nan")


def reference_values(rows: pd.DataFrame, metric: str = "dice") -> pd.DataFrame:
    """Mean, spread and number of ``source`` and of ``all labels`` (by recipe)."""
    table = _of_class(rows[rows["arm"].isin([SOURCE, ALL_LABELS])], MEAN)
    return table.groupby("way", sort=False)[metric].agg(["mean", "std", "count"]).reset_index()


def case_values(cases: pd.DataFrame, metric: str = "dice") -> pd.DataFrame:
    """Mean over the classes for every run, number of labels and test case.

    If the reference lacks a class, models of the table that predict it count 0 there, and those that do not count 1; otherwise a
    false positive would be compared with nothing. If no model predicts the class, it is left out; NaN if that leaves no class of
    a case.
    """
    place = ["dataset", "configuration", "fold", "case", "class"]
    rightly_none = cases["dice"].isna() & (cases.groupby(place)["dice"].transform("count") > 0)
    cases = cases.assign(**{metric: cases[metric].mask(rightly_none, 1.0)})
    keys = ["way", "arm", "recipe", "dataset", "configuration", "fold", "seed", "labels", "case"]
    return cases.groupby(keys, sort=False)[metric].mean().rename("value").reset_index()


def harm(rows: pd.DataFrame, cases: pd.DataFrame, metric: str = "dice") -> pd.DataFrame:
    """How often, and by how much, an adapted model is worse than the source model it started from.

    One row per way and number of labels: ``runs``, ``change`` (mean difference), ``worse_runs`` (share whose mean is below the
    source's), ``loss`` (mean difference of these), ``worst`` (lowest difference of any run), ``worse_cases`` (share of the test
    cases that lost; for a class that the reference lacks see :func:`case_values`).
    """
    table = references(rows, metric)
    table = table.assign(change=table["value"] - table[SOURCE])
    values = case_values(cases, metric)
    place = ["dataset", "configuration", "fold", "case"]
    source = values[values["arm"] == SOURCE].set_index(place)["value"].rename(SOURCE)
    values = values[values["arm"] != SOURCE].join(source, on=place)
    values = values.assign(worse=(values["value"] < values[SOURCE]).astype(float))
    by_case = values.groupby(["way", "labels"], sort=False)["worse"].mean()
    lines = []
    for (way, labels), group in table.groupby(["way", "labels"], sort=False):
        below = group.loc[group["change"] < 0, "change"]
        lines.append(
            {
                "way": way,
                "labels": int(labels),
                "runs": len(group),
                "change": group["change"].mean(),
                "worse_runs": len(below) / len(group),
                "loss": below.mean() if len(below) else 0.0,
                "worst": group["change"].min(),
                "worse_cases": by_case.get((way, labels), np.nan),
            }
        )
    return pd.DataFrame(lines)


def certificate(cases: pd.DataFrame) -> pd.DataFrame:
    """How much an adapted model's mean IoU can differ from its source's on the test cases, and how much it does.

    One row per way and number of labels, means over runs: ``bound``, the mean Jaccard distance of the two models' predictions
    (:mod:`~nnunet_active.scoring.jaccard`); ``difference``, the absolute difference of the mean IoU over cases and classes (1 if
    a class is neither in the reference nor predicted); ``share`` = difference / bound. Empty if the distance was not measured.

    Args:
        cases: rows of ``cases.csv`` with ``way``.
    """
    columns = ["way", "labels", "runs", "bound", "difference", "share"]
    if DISTANCE not in cases:
        return pd.DataFrame(columns=columns)
    known = cases.dropna(subset=[DISTANCE])
    place = ["dataset", "configuration", "fold", "case", "class"]
    source = known[known["arm"] == SOURCE].set_index(place)["iou"].fillna(1.0).rename(SOURCE)
    adapted = known[known["arm"] != SOURCE].join(source, on=place).dropna(subset=[SOURCE])
    if adapted.empty:
        return pd.DataFrame(columns=columns)
    adapted = adapted.assign(change=adapted["iou"].fillna(1.0) - adapted[SOURCE])
    runs = adapted.groupby(["way", *UNIT, "labels"], sort=False)[[DISTANCE, "change"]].mean()
    runs = runs.assign(difference=runs["change"].abs()).groupby(["way", "labels"], sort=False)
    found = runs.agg(runs=(DISTANCE, "size"), bound=(DISTANCE, "mean"), difference=("difference", "mean"))
    return found.assign(share=found["difference"] / found["bound"]).reset_index()[columns]


def selection(pseudo_labels: pd.DataFrame) -> pd.DataFrame:
    """Selected against unselected pseudo-labels, a row per way and number of labels.

    Args:
        pseudo_labels: ``pseudo_labels.csv`` with ``way``: a row per run, round and candidate, with ``reliable`` and ``dice``.

    Returns:
        ``runs``; ``selected``, ``unselected``: mean over runs of the mean Dice of the candidates; ``difference``; ``difference_std``
        over runs; ``higher``: share of the runs in which the selected ones are better. Runs that kept all or none do not count.
    """
    key = ["way", "labels", "run"]
    rows = pseudo_labels.assign(reliable=pseudo_labels["reliable"].astype(str) == "True")
    means = rows.groupby([*key, "reliable"])["dice"].mean().unstack("reliable").reindex(columns=[True, False])
    means = means.dropna().set_axis(["selected", "unselected"], axis=1)
    means["difference"] = means["selected"] - means["unselected"]
    means["higher"] = (means["difference"] > 0).astype(float)
    grouped = means.groupby(["way", "labels"])
    table = grouped.mean()
    table.insert(0, "runs", grouped.size())
    table.insert(4, "difference_std", grouped["difference"].std())
    return table.reset_index()
