"""From the rows of ``value_of_labels``: the worth of every case, what each first pick is worth, which property goes with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from first_picks import both, first_picks, from_source, only, patients_of, properties
from scipy.spatial.distance import cdist
from scipy.stats import rankdata, spearmanr

from nnunet_active.benchmark.paired_tests import holm
from nnunet_active.strategies.strata import by_class, typicality

SHUFFLES, EFFECT = 10_000, 0.01


def worths(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean change of Dice over the test scans, by pool, seed, number of labels, set and alpha.

    Where sets of a pool are judged on two groups of test scans, the difference between the groups' means is taken out: a set is not
    better because its test scans are easier.
    """
    rows = rows.drop_duplicates(["pool", "seed", "labels", "cases", "alpha", "test"], keep="last")
    by = ["pool", "seed", "labels", "cases", "alpha"]
    table = rows.groupby(by).agg(change=("change", "mean"), tests=("test", lambda names: "+".join(sorted(names))))
    table = table.reset_index()
    same = ["pool", "seed", "labels", "alpha"]
    overall = table.groupby(same)["change"].transform("mean")
    table["change"] += overall - table.groupby([*same, "tests"])["change"].transform("mean")
    return table.drop(columns="tests")


def chance_of(observed: float, shuffled: np.ndarray) -> float:
    """Two-sided p of a permutation test; both are distances from what chance gives on average."""
    return (1 + np.sum(np.abs(shuffled) >= abs(observed) - 1e-12)) / (1 + len(shuffled))


def _shuffled(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.permuted(np.tile(values, (SHUFFLES, 1)), axis=1)


def judge(cases: pd.DataFrame) -> pd.DataFrame:
    """Expected worth of every first pick against the mean of all cases, by pool and alpha, and over all pools.

    Args:
        cases: rows with ``pool``, ``alpha``, ``change`` and one column of probabilities ``p NAME`` for each strategy.

    Returns:
        ``strategy``, ``pool``, ``alpha``, ``expected``, ``above`` (in standard deviations of the table) and ``p``.
    """
    names = [name for name in cases if name.startswith("p ")]
    found = []
    for alpha, of_alpha in cases.groupby("alpha"):
        totals, by_chance = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
        pools = of_alpha.groupby("pool", sort=False)
        for pool, group in pools:
            values = group["change"].to_numpy()
            z = (values - values.mean()) / values.std(ddof=1)
            shuffled = _shuffled(z, np.random.default_rng(0))
            for name in names:
                q = group[name].to_numpy() / group[name].sum()
                above, chance = q @ z, shuffled @ q
                totals[name], by_chance[name] = totals[name] + above, by_chance[name] + chance
                better = (q[:, None] * (values[:, None] > values[None])).sum() / len(values)
                row = {
                    "strategy": name[2:],
                    "pool": pool,
                    "alpha": alpha,
                    "expected": q @ values,
                    "better_than": better,
                }
                found.append({**row, "above": above, "p": chance_of(above, chance)})
        for name in names:
            row = {"strategy": name[2:], "pool": "all", "alpha": alpha, "above": totals[name] / len(pools)}
            found.append({**row, "p": chance_of(totals[name], by_chance[name])})
    return pd.DataFrame(found)


def correlate(cases: pd.DataFrame, names: list[str], value: str = "change") -> pd.DataFrame:
    """Spearman of every property with the worth, by pool and as a mean over pools; p by permutation within pools, corrected.

    Holm's correction is over the properties of one alpha, for each pool and for the mean over pools alike.
    """
    found = []
    for alpha, of_alpha in cases.groupby("alpha"):
        for name in names:
            total, by_chance, pools = 0.0, 0.0, of_alpha.groupby("pool", sort=False)
            for pool, group in pools:
                known = group[[name, value]].dropna()
                if known[name].nunique() < 2:
                    continue
                x, y = (rankdata(known[column]) for column in (name, value))
                with np.errstate(invalid="ignore"):  # all of the same worth: no rank correlation, NaN
                    x, y = ((r - r.mean()) / np.sqrt(((r - r.mean()) ** 2).sum()) for r in (x, y))
                chance, rho = _shuffled(y, np.random.default_rng(0)) @ x, float(x @ y)
                total, by_chance = total + rho, by_chance + chance
                found.append({"alpha": alpha, "property": name, "pool": pool, "rho": rho, "p": chance_of(rho, chance)})
            if np.ndim(by_chance):
                row = {"alpha": alpha, "property": name, "pool": "mean", "rho": total / len(pools)}
                found.append({**row, "p": chance_of(total, by_chance)})
    table = pd.DataFrame(found)
    table["p_holm"] = table.groupby(["alpha", "pool"])["p"].transform(lambda p: holm(p.to_numpy()))
    return table


def of_sets(sets: pd.DataFrame, cases: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """What is known of every set without a label, and the mean worth of its cases as single labels."""
    found = []
    for pool, group in sets.groupby("pool", sort=False):
        seen, source = both(folder, pool)
        doubt, away = 1 - seen.column("soft_dice_confidence"), from_source(seen, source)
        z, where = by_class(seen), {case: i for i, case in enumerate(seen.cases)}
        apart, typical, volume = cdist(z, z), typicality(z), np.log1p(seen.column("foreground_voxels"))
        single = cases[cases["pool"] == pool].set_index(["alpha", "case"])["change"]
        for row in group.itertuples():
            names = row.cases.split("+")
            own = [where[name] for name in names]
            pairs = apart[np.ix_(own, own)][np.triu_indices(len(own), 1)]
            found.append(
                {
                    **{name: getattr(row, name) for name in ("pool", "seed", "labels", "cases", "alpha", "change")},
                    "coverage": -apart[:, own].min(axis=1).mean(),
                    "distance between the cases": pairs.mean(),
                    "mean typicality": typical[own].mean(),
                    "mean predicted volume": volume[own].mean(),
                    "spread of volume": volume[own].std(),
                    "mean difficulty": doubt[own].mean(),
                    "mean distance to the source": away[own].mean(),
                    "mean worth of the single cases": single.reindex([(row.alpha, name) for name in names]).mean(),
                }
            )
    return pd.DataFrame(found)


def table_of_cases(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """One row for each case and alpha: worth (of a second seed too), properties, and the probability in every strategy."""
    single = table[table["labels"] == 1]
    first, again = (single[single["seed"] == seed] for seed in (0, 1))
    keys = ["pool", "cases", "alpha"]
    found = first[[*keys, "change"]].merge(again[[*keys, "change"]].rename(columns={"change": "again"}), "left", keys)
    parts = []
    for pool, group in found.rename(columns={"cases": "case"}).groupby("pool", sort=False):
        seen, source = both(folder, pool)
        seen = only(seen, set(group["case"]))
        picks = {f"p {name}": chance for name, chance in first_picks(seen, patients_of(seen)).items()}
        known = pd.concat([properties(seen, source), pd.DataFrame(picks, index=list(seen.cases))], axis=1)
        parts.append(group.merge(known, left_on="case", right_index=True))
    return pd.concat(parts, ignore_index=True)


def spread(cases: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread of the table, how much of it is the case, and the runs that a difference of 0.01 takes."""
    found = []
    for (pool, alpha), group in cases.groupby(["pool", "alpha"], sort=False):
        values, sd = group["change"], group["change"].std()
        row = {"pool": pool, "alpha": alpha, "cases": len(group), "mean": values.mean(), "sd": sd, "best": values.max()}
        row |= {"worst": values.min(), "harmful": (values < 0).mean(), "runs": (2.8 * sd / EFFECT) ** 2}
        both = group[["change", "again"]].dropna()
        if len(both) > 2:
            noise = (both["change"] - both["again"]).std() / np.sqrt(2)
            row |= {"twice": len(both), "noise": noise, "same_order": spearmanr(both["change"], both["again"])[0]}
            row |= {"share_of_the_case": both.corr().iloc[0, 1]}
        found.append(row)
    return pd.DataFrame(found)
