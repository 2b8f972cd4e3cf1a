"""How far from the source to the fine-tuned weights should the weights that predict be? From the runs of a finished benchmark.

    python benchmarks/interpolation.py BENCHMARK_FOLDER --arms mmacts assft foreground_random --csv results/interpolation.csv

The network after every round is measured with the weights w0 + alpha (w - w0) for several alpha: on the test cases, and on the
case that was asked for next, which it was not trained on (``next_dice``). The requests are those of the benchmark, made by the
fine-tuned network itself (alpha 1); a training with the setting ``interpolation`` would ask by the interpolated one. The legs must
still have their checkpoints. ``--choose`` shows what the next cases would have told: alpha with the highest mean ``next_dice`` so
far, against every fixed alpha. ``--held-out K ...`` shows what the recipe ``held_out`` would have done with K held-out cases: test
cases are drawn at random, alpha is chosen by them, and the others say how good that is (300 draws).
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from nnunet_active.training.guarded_choice import gate
from nnunet_active.training.held_out_choice import ALPHAS, nearest_within_one_standard_error

KEY = ["dataset", "fold", "arm", "seed"]


def mean_dice(cases: pd.DataFrame) -> float:
    """As the row ``mean`` of ``results.csv``."""
    from nnunet_active.benchmark.results import per_class

    return float(per_class(cases).loc["mean", "dice"])


class Measured:
    """Networks of one benchmark on cases, each combination once."""

    def __init__(self, root: Path, raw: Path) -> None:
        from nnunet_active.benchmark.target import SharedTarget

        plans = next((root / "target").rglob("nnUNetActivePlans.json"))
        self.root, self.place = root, (raw, plans.parent.parent, plans.parent.name)
        self.make_target, self.evaluators, self.sources = SharedTarget, {}, {}
        self.cases: list[pd.DataFrame] = []

    def evaluator(self, spec: dict, cases: tuple[str, ...]):
        """For these cases of the benchmark's target."""
        from nnunet_active.benchmark.case_metrics import Evaluator

        if cases not in self.evaluators:
            target = self.make_target(*self.place, spec["plans"], spec["configuration"])
            self.evaluators[cases] = Evaluator(target, cases, spec["device"], spec["tolerance_mm"])
        return self.evaluators[cases]

    def run(self, result: dict, labels: list[int] | None) -> list[dict]:
        """Rows of one run: one for each round and alpha; mean Dice of each test case over its classes goes to ``cases``."""
        from nnunet_active.training.weights import interpolate

        spec, rows = result["spec"], []
        test = self.evaluator(spec, tuple(spec["test"]))
        source = test.source().state_dict()
        if test not in self.sources:
            self.sources[test] = test.measure(test.network(source))
        for one, following in zip(result["rounds"], [*result["rounds"][1:], None], strict=True):
            if labels and len(one["labelled"]) not in labels:
                continue
            file = self.root / "legs" / one["leg"] / "checkpoint.pth"
            trained = torch.load(file, map_location="cpu", weights_only=False)["network_weights"]
            for alpha in ALPHAS:
                network = test.network(interpolate(source, trained, alpha))
                known = {0.0: self.sources[test], 1.0: pd.DataFrame(one["cases"])}
                cases = known[alpha] if alpha in known else test.measure(network)
                row = {key: spec[key] for key in KEY} | {"labels": len(one["labelled"]), "alpha": alpha}
                self.cases.append(cases.groupby("case")["dice"].mean().reset_index().assign(**row))
                row["dice"] = mean_dice(cases)
                if following is not None:
                    ahead = self.evaluator(spec, tuple(following["requested"]))
                    row["next_dice"] = mean_dice(ahead.measure(network))
                rows.append(row)
        return rows


def choose(table: pd.DataFrame) -> pd.DataFrame:
    """Dice at the full budget for every fixed alpha, and for the one that the cases asked for after the first round speak for."""
    end = table[table["labels"] == table.groupby(KEY)["labels"].transform("max")]
    fixed = end.pivot_table(index=KEY, columns="alpha", values="dice")
    told = table.groupby([*KEY, "alpha"])["next_dice"].mean().unstack("alpha")
    best = told.dropna().idxmax(axis=1)
    fixed["chosen_alpha"] = best
    fixed["chosen"] = [fixed.loc[index, alpha] if alpha == alpha else float("nan") for index, alpha in best.items()]
    return fixed


def replayed(table: pd.DataFrame) -> pd.DataFrame:
    """Dice after every round of every run: of the source, of the alpha that the gate takes, and of 0.75; and that alpha."""
    lines = []
    for key, run in table.groupby(KEY):
        dice, told = (run.pivot(index="labels", columns="alpha", values=name) for name in ("dice", "next_dice"))
        for labels, values in dice.iterrows():
            alpha = gate(told[told.index < labels].dropna(), labels)
            dice_of = {"source": values[0.0], "guarded": values[alpha], "three_quarters": values[0.75]}
            lines.append(dict(zip(KEY, key, strict=True)) | {"labels": labels, "alpha": alpha} | dice_of)
    return pd.DataFrame(lines)


def guarded(table: pd.DataFrame) -> pd.DataFrame:
    """Change of Dice against the source: of the alpha that the gate takes, and of 0.75; one row per arm."""
    found = replayed(table)
    for way in ("guarded", "three_quarters"):
        found[way] -= found["source"]
    ways = found.groupby(["dataset", "arm"])[["guarded", "three_quarters"]]
    worse = found.assign(**{way: found[way] < -0.005 for way in ("guarded", "three_quarters")})
    counted = worse.groupby(["dataset", "arm"])[["guarded", "three_quarters"]].sum()
    parts = {"mean": ways.mean(), "worst": ways.min(), "worse": counted, "networks": ways.count()}
    return pd.concat(parts, axis=1)


def held_out(cases: pd.DataFrame, number: int, draws: int = 300) -> pd.DataFrame:
    """Dice on the test cases that were not drawn: for every fixed alpha, and for the one that ``--recipe held_out`` would choose.

    Returns:
        One row per run and round: ``fixed`` for every alpha, ``chosen``, mean ``chosen_alpha``, and the share of draws that end
        below the source network (``worse``) and by more than 0.01 (``noticeably``).
    """
    rng, lines = np.random.default_rng(0), []
    for key, group in cases.groupby([*KEY, "labels"]):
        table = group.pivot(index="case", columns="alpha", values="dice").dropna()
        found = []
        for _ in range(draws):
            drawn = rng.permutation(len(table))
            alpha = nearest_within_one_standard_error(table.iloc[drawn[:number]])
            rest = table.iloc[drawn[number:]].mean()
            loss = rest[0.0] - rest[alpha]
            fixed = {f"fixed {a:g}": value for a, value in rest.items()}
            shares = {"worse": loss > 0, "noticeably": loss > 0.01}
            found.append({**fixed, "chosen": rest[alpha], "chosen_alpha": alpha, **shares})
        lines.append(dict(zip([*KEY, "labels"], key, strict=True)) | pd.DataFrame(found).mean().to_dict())
    return pd.DataFrame(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--arms", nargs="+", default=["mmacts", "assft", "foreground_random"])
    parser.add_argument("--recipe", default="plain")
    parser.add_argument("--raw", type=Path, default=os.environ.get("nnUNet_raw"))
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--choose", action="store_true", help="only read the CSV and show what the next cases tell")
    parser.add_argument("--gate", action="store_true", help="also show what the recipe guarded would have done")
    parser.add_argument("--labels", nargs="+", type=int, help="only the rounds with so many labels (default: all)")
    parser.add_argument("--held-out", nargs="+", type=int, default=[], metavar="K", help="what K held-out cases tell")
    args = parser.parse_args()
    by_case = args.csv.with_name(f"{args.csv.stem}_cases.csv")
    if not args.choose:
        torch.set_num_threads(1)
        rows: list[dict] = []
        cases: list[pd.DataFrame] = []
        for root in args.folders:
            measured = Measured(root, Path(args.raw))
            for file in sorted(root.glob("runs/*/result.json")):
                result = json.loads(file.read_text())
                if result["spec"]["arm"] in args.arms and result["spec"]["recipe"] == args.recipe:
                    rows += measured.run(result, args.labels)
                    args.csv.parent.mkdir(parents=True, exist_ok=True)
                    pd.DataFrame(rows).to_csv(args.csv, index=False, lineterminator="\n")
            cases += measured.cases
        pd.concat(cases).to_csv(by_case, index=False, lineterminator="\n", float_format="%.5f")
    table = pd.read_csv(args.csv)
    means = table.groupby(["dataset", "labels", "alpha"])["dice"].agg(["mean", "std", "count"]).unstack("alpha")
    print(means["mean"].round(3).to_string())
    print(choose(table).round(3).to_string())
    if args.gate:
        print(guarded(table).round(3).to_string())
    cases_told = pd.read_csv(by_case) if args.held_out else None
    for number in args.held_out:
        told = held_out(cases_told, number)
        print(f"{number} held-out cases")
        print(
            told.groupby(["dataset", "labels"])
            .mean(numeric_only=True)
            .drop(columns=["fold", "seed"])
            .round(3)
            .to_string()
        )


if __name__ == "__main__":
    main()
