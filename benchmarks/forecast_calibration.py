"""How far off is the mean Dice that ``nnunet_active forecast`` names without labels, and with three or five, and do its intervals hold?

    python benchmarks/forecast_calibration.py benchmarks/results/forecast_cases.csv --networks glioma=FILE cardiac=FILE \\
        --csv benchmarks/results/forecast_calibration.csv

The cases of a set are divided at random: some are the labelled ones, the rest is the pool whose mean Dice is forecast; many times, by
the command's own code (``forecast.expected_dice``). The networks: the source networks of ``forecast.py`` (arm ``source``) on
all cases of its sets, and with ``--networks`` fine-tuned ones on test cases that they had not seen: tables with the columns ``run``,
``alpha``, ``case``, ``class``, ``dice``, ``sdc`` and ``pairwise`` (mean pairwise Dice of the network at alpha 0, 0.25, 0.5, 0.75, 1).

Dice is compared with (``quality``): ``source``, (s1 s2) ** 1.25 of the source network, as the command does until the network itself
has three labels that it has not seen; ``own``, that of the network itself with the alphas as members; ``none``: nothing, so that the
labelled cases' mean Dice is the forecast. A row for each pair, alpha and quality: means over networks and draws. ``coverage`` is of
90 % intervals. ``floor``: with n labels of N cases, what the drawing alone leaves of the error of mean f + mean r, where Dice and f
differ by r: ``sqrt(2 / pi) sd(r) sqrt(1 / n + 1 / (N - n))``.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from nnunet_active.forecast.expected_dice import EXPONENT, LABELS_NEEDED, PRIOR, estimate_dice

LABELS = (0, LABELS_NEEDED, 5)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path, help="rows of every case, from forecast.py --cases")
    parser.add_argument("--networks", nargs="*", default=[], metavar="PAIR=FILE")
    parser.add_argument("--alphas", nargs="*", type=float, default=[0.25, 0.75, 1.0])
    parser.add_argument("--draws", type=int, default=1000, help="for each row: its networks share them")
    parser.add_argument("--csv", type=Path)
    return parser.parse_args()


def judge(dice: np.ndarray, known: np.ndarray, labels: int, draws: int, prior: int = PRIOR) -> dict[str, float]:
    """Of one network: what the forecasts of many draws are worth."""
    rng, cases, found = np.random.default_rng(0), np.arange(len(dice)), []
    for _ in range(draws):
        labelled = rng.choice(cases, labels, replace=False)
        pool = np.setdiff1d(cases, labelled)
        forecast, true = estimate_dice(known[pool], known[labelled], dice[labelled], prior), dice[pool].mean()
        covers = forecast.low <= true <= forecast.high if np.isfinite(forecast.low) else np.nan
        found.append((abs(forecast.mean - true), covers, forecast.high - forecast.low))
    error, coverage, width = np.mean(found, axis=0)
    spread = np.std(dice - known, ddof=1) * np.sqrt(2 / np.pi)
    floor = spread * np.sqrt(1 / labels + 1 / (len(dice) - labels)) if labels else np.nan
    return {"error": error, "floor": floor, "coverage": coverage, "width": width}


def by_case(rows: pd.DataFrame, source: pd.DataFrame | None = None) -> pd.DataFrame:
    """Dice and qualities of one network, one row per case that has a Dice."""
    own = (rows.get("pairwise", rows.get("s1_axes")) * rows.get("sdc", rows.get("s2"))) ** EXPONENT
    table = pd.DataFrame({"case": rows["case"], "dice": rows["dice"], "own": own}).groupby("case").mean()
    if source is not None:
        table = table.join(source)
    return table.assign(none=1.0).dropna()


def main() -> None:
    args, networks = arguments(), []
    cases = pd.read_csv(args.cases)
    cases["source"] = (cases["s1_axes"] * cases["s2"]) ** EXPONENT
    for (pair, configuration), rows in cases.groupby(["pair", "configuration"]):
        networks.append((pair, configuration, "source", 0.0, by_case(rows)))
    for given in args.networks:
        pair, _, file = given.partition("=")
        table = pd.read_csv(file)
        source = cases[
            (cases["pair"] == pair) & (cases["configuration"] == ("3d_fullres" if pair == "hippocampus" else "2d"))
        ]
        source = source.groupby("case")["source"].mean() if len(source) else None
        for (run, alpha), rows in table.groupby(["run", "alpha"]):
            if alpha in args.alphas:
                networks.append((pair, "", run, alpha, by_case(rows, source)))
    found, shares = [], Counter((pair, configuration, alpha) for pair, configuration, _, alpha, _ in networks)
    for pair, configuration, run, alpha, table in networks:
        draws = -(-args.draws // shares[pair, configuration, alpha])
        for quality in table.columns.drop("dice"):
            for labels in LABELS:
                prior = 0 if quality == "none" else PRIOR
                result = judge(table["dice"].to_numpy(), table[quality].to_numpy(), labels, draws, prior)
                at = {
                    "pair": pair,
                    "configuration": configuration,
                    "alpha": alpha,
                    "quality": quality,
                    "labels": labels,
                }
                found.append({**at, "run": run, "cases": len(table), **result})
    keys = ["pair", "configuration", "alpha", "quality", "labels"]
    grouped = pd.DataFrame(found).groupby(keys, sort=False)
    means = grouped[["error", "floor", "coverage", "width"]].mean()
    result = pd.concat(
        [grouped["run"].nunique().rename("networks"), grouped["cases"].first(), means], axis=1
    ).reset_index()
    print(result.round(3).to_string(index=False))
    if args.csv:
        result.round(4).to_csv(args.csv, index=False)


if __name__ == "__main__":
    main()
