"""What is the label of each single case worth, and do the scores of the strategies know it?

The first query of a sequential strategy is the only one that all strategies make in the same situation: nothing labelled, the source
network. So every case of the pool is labelled alone, the source network is fine-tuned on it for one stride, and measured on the test
cases. The mean over the pool is what a random first pick is worth, the maximum what a perfect one is; the rank correlation of a score
with this value says whether the score points the right way.

    python benchmarks/value_of_one_label.py configure BENCHMARK --fold 0 --seeds 0 1 > one_label.json
    nnunet_active benchmark --config one_label.json -m MODEL -o ONE_LABEL
    python benchmarks/value_of_one_label.py compare BENCHMARK ONE_LABEL [ONE_LABEL ...] --csv results/value_of_one_label.csv

BENCHMARK is the folder of a benchmark on the same target and split with the strategies that are looked at.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

SCORES = {
    "mmacts": ["component_u", "component_a", "component_informativeness", "component_rho", "utility"],
    "assft": [
        "component_knowledge_gap",
        "component_diversity",
        "component_dkd",
        "component_asd",
        "utility",
        "confidence",
    ],
    "entropy": ["utility"],
    "coreset": ["utility"],
    "typiclust": ["utility"],
    "lamda": ["utility"],
}


def results(root: Path) -> list[dict]:
    """Of all finished runs."""
    return [json.loads(file.read_text()) for file in sorted(root.glob("runs/*/result.json"))]


def configure(root: Path, fold: int, seeds: list[int], recipes: list[str]) -> dict:
    """The benchmark with one arm for each case of the fold's pool."""
    content = json.loads((root / "benchmark.json").read_text())
    pool = next(one["spec"]["train"] for one in results(root) if one["spec"]["fold"] == fold)
    strategy = f"{Path(__file__).resolve().parent / 'one_case.py'}:OneCase"
    arms = [{"strategy": strategy, "options": {"case": case}, "name": case} for case in pool]
    changed = {"arms": arms, "recipes": recipes, "budget": 1, "epochs": None, "folds": [fold], "seeds": seeds}
    return {**content, **changed, "all_labels": False}


def values(root: Path) -> pd.DataFrame:
    """Mean Dice over the seeds with the label of one case, less that of the source, by recipe, fold and case."""
    table = pd.read_csv(root / "results.csv", keep_default_na=False, na_values=[""])
    table = table[table["class"] == "mean"]
    source = table[table["arm"] == "source"].set_index("fold")["dice"]
    table = table[table["arm"] != "source"]
    value = table.groupby(["dataset", "recipe", "fold", "arm"])["dice"].agg(["mean", "count"]).reset_index()
    value["gain"] = value["mean"] - value["fold"].map(source)
    return value.rename(columns={"arm": "case", "mean": "dice", "count": "seeds"})


def first_scores(root: Path, fold: int) -> tuple[pd.DataFrame, dict[str, str]]:
    """What each strategy computed for every case before its first pick, and the pick; all by the source network."""
    columns, picks = {}, {}
    for one in results(root):
        spec = one["spec"]
        if spec["fold"] != fold or spec["arm"] not in SCORES or spec["arm"] in picks:
            continue
        file = next((root / "runs" / one["run"]).rglob("round_001/scores.csv"))
        table = pd.read_csv(file, index_col="case")
        picks[spec["arm"]] = one["rounds"][0]["requested"][0]
        columns |= {f"{spec['arm']} {name}": table[name] for name in SCORES[spec["arm"]] if name in table}
    return pd.DataFrame(columns), picks


def compare(root: Path, folders: list[Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rank correlations of the scores with the value; value of every strategy's first pick, and its share of cases that are worse."""
    correlations, picked = [], []
    for value in map(values, folders):
        for (dataset, recipe, fold), group in value.groupby(["dataset", "recipe", "fold"]):
            gain = group.set_index("case")["gain"]
            where = {"dataset": dataset, "recipe": recipe, "fold": fold, "cases": len(gain)}
            spread = {"mean": gain.mean(), "std": gain.std(), "best": gain.max(), "harmful": (gain < 0).mean()}
            scores, picks = first_scores(root, fold)
            for name, score in scores.items():
                both = pd.concat([score, gain], axis=1, join="inner").dropna()
                constant = both.iloc[:, 0].nunique() < 2
                rho, p = (np.nan, np.nan) if constant else stats.spearmanr(both.iloc[:, 0], both.iloc[:, 1])
                correlations.append({**where, "score": name, "spearman": rho, "p": p})
            for arm, case in picks.items():
                if case not in gain:  # its run is not finished
                    continue
                row = {"arm": arm, "case": case, "gain": gain[case], "better_than": (gain < gain[case]).mean()}
                picked.append({**where, **spread, **row})
    return pd.DataFrame(correlations), pd.DataFrame(picked)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("configure")
    one.add_argument("benchmark", type=Path)
    one.add_argument("--fold", type=int, default=0)
    one.add_argument("--seeds", type=int, nargs="+", default=[0])
    one.add_argument("--recipes", nargs="+", default=["plain"])
    other = commands.add_parser("compare")
    other.add_argument("benchmark", type=Path)
    other.add_argument("folders", type=Path, nargs="+")
    other.add_argument("--csv", type=Path)
    args = parser.parse_args()
    if args.command == "configure":
        json.dump(configure(args.benchmark, args.fold, args.seeds, args.recipes), sys.stdout, indent=2)
        return
    correlations, picked = compare(args.benchmark, args.folders)
    print(correlations.round(3).to_string(index=False), picked.round(3).to_string(index=False), sep="\n\n")
    if args.csv:
        for name, table in (
            ("scores", correlations),
            ("picks", picked),
            ("cases", pd.concat(map(values, args.folders))),
        ):
            file = args.csv.with_stem(f"{args.csv.stem}_{name}")
            table.round(4).to_csv(file, mode="w", index=False, lineterminator="\n")


if __name__ == "__main__":
    main()
