"""When to stop labelling: what two rules would have saved, and cost, on the learning curves that were recorded.

    python benchmarks/forecast_stopping.py --csv benchmarks/results/forecast_stopping.csv

``gate``: the command's rule (``forecast.outlook``), on the curves whose networks were also judged on the next case before it was
trained on (``interpolation_*.csv``, alpha 0.75). After k labels there are k - 1 such cases. It takes three; from four labels on it
can decide, and with two cases (``cases`` 2, for comparison) from three. ``threshold`` is varied around the command's. ``left out``: a
pair's curves are judged at the largest threshold that loses at most 0.005 Dice on the other pairs.

``curve``: c - a / k is fitted to the first k points of a learning curve (``benchmark_*.csv``); stop where the next label is expected to
bring less than 0.005 Dice. The command does not use it: what it would stop has more to gain than what it would not.

``saved``: mean labels left of a curve that was stopped. ``lost``: mean Dice at the curve's end, or the source's where that is higher,
minus that at the stop (``gate``: the source network). ``left_where_on``: what the other curves still gained on the same scale.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from nnunet_active.forecast.outlook import PAYS

RESULTS = Path(__file__).parent / "results"
THRESHOLDS = (0.0, 0.01, PAYS, 0.04, 0.08)
ENOUGH = 0.005
ALPHA = 0.75


def judged_curves() -> Iterator[dict]:
    """Every network sequence of ``interpolation_*.csv``, after every label from the third on."""
    for file in sorted(RESULTS.glob("interpolation_*.csv")):
        if file.stem.endswith("_cases"):
            continue
        for _, rows in pd.read_csv(file).groupby(["arm", "fold", "seed"]):
            dice, judged = (rows.pivot_table(index="labels", columns="alpha", values=v) for v in ("dice", "next_dice"))
            gains = (judged[ALPHA] - judged[0.0]).dropna()
            for k in dice.index[dice.index >= 3]:
                known = gains[gains.index < k]
                if len(known) < 2:
                    continue
                yield {
                    "curves": file.stem.removeprefix("interpolation_"),
                    "labels": k,
                    "cases": len(known),
                    "signal": known.mean(),
                    "saved": dice.index.max() - k,
                    "lost": max(0.0, dice[ALPHA].iloc[-1] - dice[0.0].iloc[-1]),
                }


def fitted_curves() -> Iterator[dict]:
    """Every curve of ``benchmark_*.csv`` with at least four points, after the third and the fourth."""
    for file in sorted(RESULTS.glob("benchmark_*.csv")):
        table = pd.read_csv(file)
        if "arm" not in table or "class" not in table:
            continue
        table = table[(table["class"] == "mean") & (table["labels"] > 0)]
        for _, rows in table.groupby(["arm", "recipe", "fold", "seed"]):
            rows = rows.sort_values("labels")
            labels, dice = rows["labels"].to_numpy(float), rows["dice"].to_numpy()
            for n in range(3, len(labels)):
                _, a = np.linalg.lstsq(np.c_[np.ones(n), -1 / labels[:n]], dice[:n], rcond=None)[0]
                yield {
                    "curves": file.stem.removeprefix("benchmark_"),
                    "labels": int(labels[n - 1]),
                    "cases": 0,
                    "signal": max(a, 0) / (labels[n - 1] * labels[n]),
                    "saved": labels[-1] - labels[n - 1],
                    "lost": dice[-1] - dice[n - 1],
                }


def judged(part: pd.DataFrame, stop: pd.Series) -> dict[str, float]:
    """What it means that these curves stop there."""
    return {
        "of": len(part),
        "stopped": int(stop.sum()),
        "saved": part["saved"][stop].mean(),
        "lost": part["lost"][stop].mean(),
        "lost_at_most": part["lost"][stop].max(),
        "left_where_on": part["lost"][~stop].mean(),
    }


def left_out(table: pd.DataFrame) -> Iterator[dict]:
    """The gate, with each pair's threshold chosen on the others."""
    table = table.assign(pair=table["curves"].str.partition("_")[0])
    for (labels, cases), part in table.groupby(["labels", "cases"]):
        at, stops = {"rule": "left out", "labels": labels, "cases": cases}, []
        for pair, here in part.groupby("pair"):
            others = part[part["pair"] != pair]
            lost = {threshold: others["lost"][others["signal"] < threshold].mean() for threshold in THRESHOLDS}
            threshold = max((t for t in THRESHOLDS if not lost[t] > ENOUGH), default=THRESHOLDS[0])
            stops.append(here["signal"] < threshold)
            yield {**at, "curves": pair, "threshold": threshold, **judged(here, stops[-1])}
        yield {**at, "curves": "all", **judged(part, pd.concat(stops)[part.index])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", type=Path)
    args, rows = parser.parse_args(), []
    for rule, curves, thresholds in (("gate", judged_curves(), THRESHOLDS), ("curve", fitted_curves(), (ENOUGH,))):
        table = pd.DataFrame(curves)
        groups = [
            *table.groupby(["labels", "cases", "curves"]),
            *table.assign(curves="all").groupby(["labels", "cases", "curves"]),
        ]
        for (labels, cases, name), part in groups:
            for threshold in thresholds:
                at = {"rule": rule, "curves": name, "labels": labels, "cases": cases, "threshold": threshold}
                rows.append({**at, **judged(part, part["signal"] < threshold)})
    rows += left_out(pd.DataFrame(judged_curves()))
    result = pd.DataFrame(rows)
    print(result[result["curves"] == "all"].round(3).to_string(index=False))
    if args.csv:
        result.round(4).to_csv(args.csv, index=False)


if __name__ == "__main__":
    main()
