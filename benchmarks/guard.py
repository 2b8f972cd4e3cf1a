"""Would a guard for single scans have helped? Judged on stored networks, nothing is predicted.

    python benchmarks/guard.py glioma=GLIOMA_CASES.csv hearts=HEARTS_CASES.csv ... [--csv FILE]

Each table has one row per network, alpha, test case and class: ``run``, ``labels``, ``alpha`` (0, 0.25, 0.5, 0.75, 1), ``case``,
``class``, ``dice``, ``volume`` (voxels), ``sdc`` (soft Dice confidence). Where the network at alpha predicts a class with less than
``ratio`` of the source's volume, and the source's confidence in it is above ``sure``, the guard takes the prediction at alpha 0.25.

``ratio`` and ``sure`` are those with the highest mean change over the other pairs (leave one pair out; of equals the first of the
grid), and 0.5 and 0.8, fixed.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

RATIOS, SURE = (0.5, 0.25, 0.75), (0.8, 0.0, 0.6, 0.9, 0.95)
FIXED = (0.5, 0.8)
FLOOR = 0.25
CASE = ["run", "labels", "case"]


def guarded(table: pd.DataFrame, alpha: float, ratio: float, sure: float) -> pd.DataFrame:
    """One row per network and case: mean Dice over classes by ``source``, without guard (``plain``), with ``guard``; ``touched``."""
    rows = table.set_index([*CASE, "class"])
    source, now, floor = (rows[np.isclose(rows["alpha"], a)] for a in (0.0, alpha, FLOOR))
    collapsed = (now["volume"] < ratio * source["volume"]) & (source["sdc"] > sure)
    touched = collapsed.groupby(CASE).any()
    plain, back, before = (part["dice"].groupby(CASE).mean() for part in (now, floor, source))
    return pd.DataFrame({"source": before, "plain": plain, "guard": plain.where(~touched, back), "touched": touched})


def change(cases: pd.DataFrame) -> float:
    """Mean change of Dice by the guard."""
    return float((cases["guard"] - cases["plain"]).mean())


def best_for(tables: list[pd.DataFrame], alpha: float) -> tuple[float, float]:
    """The thresholds that help these pairs most."""
    return max(product(RATIOS, SURE), key=lambda how: sum(change(guarded(table, alpha, *how)) for table in tables))


def judge(pairs: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per pair, alpha and way of choosing the thresholds."""
    rows = []
    for (name, table), alpha in product(pairs.items(), (0.75, 1.0)):
        others = [other for key, other in pairs.items() if key != name]
        ways = {"fixed": FIXED, **({"other pairs": best_for(others, alpha)} if others else {})}
        for way, how in ways.items():
            found = guarded(table, alpha, *how)
            gain = (found["guard"] - found["plain"])[found["touched"]]
            rows.append(
                {
                    "pair": name,
                    "alpha": alpha,
                    "thresholds": way,
                    "ratio": how[0],
                    "sure": how[1],
                    "networks": found.groupby(CASE[:2]).ngroups,
                    "source": found["source"].mean(),
                    "plain": found["plain"].mean(),
                    "guard": found["guard"].mean(),
                    "predictions": len(found),
                    "touched": len(gain),
                    "scans_touched": gain.index.get_level_values("case").nunique(),
                    "better": int((gain > 0).sum()),
                    "worst": gain.min() if len(gain) else 0.0,
                    "best": gain.max() if len(gain) else 0.0,
                    "networks_better": int((found.groupby(CASE[:2]).apply(change) > 1e-9).sum()),
                    "networks_worse": int((found.groupby(CASE[:2]).apply(change) < -1e-9).sum()),
                }
            )
    return pd.DataFrame(rows)


def main() -> None:
    """Print the table, and keep it if wanted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", nargs="+", metavar="NAME=CSV")
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()
    files = dict(one.split("=", 1) for one in args.pairs)
    table = judge({name: pd.read_csv(file, dtype={"case": str}) for name, file in files.items()})
    print(table.round(4).to_string(index=False))
    if args.csv:
        table.to_csv(args.csv, index=False, float_format="%.5f")


if __name__ == "__main__":
    main()
