"""How far from the source to the fine-tuned weights should the weights that predict be? From the runs of a finished benchmark.

    python benchmarks/interpolation.py BENCHMARK_FOLDER --arms mmacts assft foreground_random --csv results/interpolation.csv

The network after every round is measured with the weights w0 + alpha (w - w0) for several alpha: on the test cases, and on the
case that was asked for next, which it was not trained on (``next_dice``). The requests are those of the benchmark, made by the
fine-tuned network itself (alpha 1); a training with the setting ``interpolation`` would ask by the interpolated one. The legs must
still have their checkpoints. ``--choose`` shows what the next cases would have told: alpha with the highest mean ``next_dice`` so
far, against every fixed alpha.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import pandas as pd
import torch

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
KEY = ["dataset", "fold", "arm", "seed"]


def mean_dice(cases: pd.DataFrame) -> float:
    """As the row ``mean`` of ``results.csv``."""
    from nnunet_active.benchmark.results import per_class

    return float(per_class(cases).loc["mean", "dice"])


class Measured:
    """Networks of one benchmark on cases, each combination once."""

    def __init__(self, root: Path, raw: Path) -> None:
        from nnunet_active.benchmark.target import Target

        plans = next((root / "target").rglob("nnUNetActivePlans.json"))
        self.root, self.place = root, (raw, plans.parent.parent, plans.parent.name)
        self.make_target, self.evaluators, self.sources = Target, {}, {}

    def evaluator(self, spec: dict, cases: tuple[str, ...]):
        """For these cases of the benchmark's target."""
        from nnunet_active.benchmark.evaluation import Evaluator

        if cases not in self.evaluators:
            target = self.make_target(*self.place, spec["plans"], spec["configuration"])
            self.evaluators[cases] = Evaluator(target, cases, spec["device"], spec["tolerance_mm"])
        return self.evaluators[cases]

    def run(self, result: dict) -> list[dict]:
        """Rows of one run: one for each round and alpha."""
        from nnunet_active.training.weights import interpolate

        spec, rows = result["spec"], []
        test = self.evaluator(spec, tuple(spec["test"]))
        source = test.source().state_dict()
        if test not in self.sources:
            self.sources[test] = mean_dice(test.measure(test.network(source)))
        for one, following in zip(result["rounds"], [*result["rounds"][1:], None], strict=True):
            file = self.root / "legs" / one["leg"] / "checkpoint.pth"
            trained = torch.load(file, map_location="cpu", weights_only=False)["network_weights"]
            for alpha in ALPHAS:
                network = test.network(interpolate(source, trained, alpha))
                known = pd.DataFrame(one["cases"])
                row = {key: spec[key] for key in KEY} | {"labels": len(one["labelled"]), "alpha": alpha}
                if alpha == 0:
                    row["dice"] = self.sources[test]
                else:
                    row["dice"] = mean_dice(known if alpha == 1 else test.measure(network))
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--arms", nargs="+", default=["mmacts", "assft", "foreground_random"])
    parser.add_argument("--recipe", default="plain")
    parser.add_argument("--raw", type=Path, default=os.environ.get("nnUNet_raw"))
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--choose", action="store_true", help="only read the CSV and show what the next cases tell")
    args = parser.parse_args()
    if not args.choose:
        torch.set_num_threads(1)
        rows: list[dict] = []
        for root in args.folders:
            measured = Measured(root, Path(args.raw))
            for file in sorted(root.glob("runs/*/result.json")):
                result = json.loads(file.read_text())
                if result["spec"]["arm"] in args.arms and result["spec"]["recipe"] == args.recipe:
                    rows += measured.run(result)
                    args.csv.parent.mkdir(parents=True, exist_ok=True)
                    pd.DataFrame(rows).to_csv(args.csv, index=False, lineterminator="\n")
    table = pd.read_csv(args.csv)
    means = table.groupby(["dataset", "labels", "alpha"])["dice"].agg(["mean", "std", "count"]).unstack("alpha")
    print(means["mean"].round(3).to_string())
    print(choose(table).round(3).to_string())


if __name__ == "__main__":
    main()
