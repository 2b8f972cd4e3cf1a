"""Would a guard for single scans have helped? The networks of finished benchmarks, measured and judged.

    python benchmarks/guard.py measure NAME BENCHMARK_FOLDER ... --csv results/guard_cases.csv
    python benchmarks/guard.py judge results/guard_cases.csv [--csv results/guard.csv]

``measure`` predicts the test cases (of more than 40 every third) by the weights w0 + alpha (w - w0) at the end of every run of
foreground_random whose checkpoint is still there: preprocessed arrays, no mirroring. It adds rows under the pair NAME: Dice, predicted
voxels, soft Dice confidence ``sdc``.

``judge``: where the network at alpha predicts a class with less than ``ratio`` of the source's volume, and the source's confidence in
it is above ``sure``, the guard takes the prediction at alpha 0.25. Both thresholds are those of the command (``fixed``), and those with
the highest mean change over the other pairs (leave one pair out; of equals the first of the grid).
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from nnunet_active.scoring.collapse import SHARE, SURE

if TYPE_CHECKING:
    from nnunet_active.benchmark.case_metrics import Evaluator

FIXED = (SHARE, SURE)
GRID = [*product((0.5, 0.25, 0.75), (0.8, 0.0, 0.6, 0.9, 0.95))]
FLOOR, DEPLOYED = 0.25, (0.75, 1.0)
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
    return max(GRID, key=lambda how: sum(change(guarded(table, alpha, *how)) for table in tables))


def judge(pairs: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per pair, alpha and way of choosing the thresholds."""
    rows = []
    for (name, table), alpha in product(pairs.items(), DEPLOYED):
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


def predictions(
    name: str, root: Path, raw: Path, alphas: tuple[float, ...], every: bool = False
) -> Iterator[tuple[dict[str, Any], Evaluator, np.ndarray, np.ndarray, np.ndarray]]:
    """For every network of one benchmark, alpha and test case: what a row begins with, the evaluator, label, prediction, confidences.

    The networks are those of ``foreground_random``, or of ``every`` strategy.
    The label is -1 where the preprocessed array was cropped away.
    """
    import torch

    from nnunet_active.benchmark.case_metrics import Evaluator
    from nnunet_active.benchmark.target import SharedTarget

    torch.set_num_threads(1)
    plans = next((root / "target").rglob("nnUNetActivePlans.json"))
    for file in sorted(root.glob("runs/*/result.json")):
        result = json.loads(file.read_text())
        spec, rounds = result["spec"], result.get("rounds") or [{}]
        checkpoint = root / "legs" / rounds[-1].get("leg", "none") / "checkpoint.pth"
        if not (checkpoint.is_file() and (every or spec["arm"].startswith("foreground_random"))):
            continue
        target = SharedTarget(raw, plans.parent.parent, plans.parent.name, spec["plans"], spec["configuration"])
        test = Evaluator(target, thinned(spec["test"]), spec["device"], spec["tolerance_mm"])
        trained = trained_weights(checkpoint)
        at = {"pair": name, "run": file.parent.name.rpartition("__")[2], "labels": len(rounds[-1]["labelled"])}
        for alpha in alphas:
            for case, *found in predicted_at(test, trained, alpha):
                yield {**at, "alpha": alpha, "case": case}, test, *found


def thinned(cases: Sequence[str]) -> tuple[str, ...]:
    """Of more than 40 cases every third."""
    return tuple(cases)[:: 3 if len(cases) > 40 else 1]


def trained_weights(checkpoint: Path) -> dict[str, Any]:
    """The end of the way from the source, whatever share of it predicts."""
    from nnunet_active.nnunet.safe_checkpoint import load_checkpoint
    from nnunet_active.training.checkpoints import own_details

    content = load_checkpoint(checkpoint, str(checkpoint))
    return own_details(content).get("trained_weights") or content["network_weights"]


def predicted_at(
    test: Evaluator, trained: dict[str, Any], alpha: float
) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Every test case by the weights w0 + alpha (w - w0): case, label, prediction, confidences; see :func:`predictions`."""
    from nnunet_active.data.partly_labelled import read_label_map
    from nnunet_active.nnunet.inference import SlidingWindow
    from nnunet_active.scoring.collapse import volumes_and_confidence
    from nnunet_active.training.weights import interpolate

    source = test.source().state_dict()
    network = test.network(source)
    network.load_state_dict(interpolate({key: source[key] for key in trained}, trained, alpha), strict=False)
    window = SlidingWindow(network, test.plans, test.target.configuration, test.dataset_json, test.device)
    for case in test.test:
        logits = window.logits(test.store.load_image(case))
        confidences = volumes_and_confidence(logits, window.regions)[1]
        label = np.asarray(read_label_map(test.store.folder, case)[0])
        yield case, label, window.labels_of(logits), confidences


def measure(
    name: str, root: Path, raw: Path, alphas: tuple[float, ...] = (0.0, FLOOR, *DEPLOYED), every: bool = False
) -> pd.DataFrame:
    """Rows of the networks of one benchmark, at every alpha; see :func:`predictions`."""
    from nnunet_active.data.label_agreement import compare
    from nnunet_active.nnunet.networks import head_names

    rows = []
    for at, test, label, predicted, confidences in predictions(name, root, raw, alphas, every):
        confidence = dict(zip(head_names(test.plans, test.dataset_json), confidences, strict=True))
        found = compare(label, np.where(label < 0, 0, predicted), test.dataset_json["labels"], 1.0)
        volume = found["volume_predicted_mm3"]
        rows += [
            {**at, "class": key, "dice": value, "volume": volume[key], "sdc": confidence[key]}
            for key, value in found["dice"].items()
        ]
    return pd.DataFrame(rows)


def add_rows(file: Path, parts: list[pd.DataFrame]) -> None:
    """Write rows behind those that the file has."""
    before = [pd.read_csv(file, dtype={"case": str})] if file.is_file() else []
    pd.concat([*before, *parts]).to_csv(file, index=False, float_format="%.5f", lineterminator="\n")


def add_measure(commands: argparse._SubParsersAction) -> None:
    """The command ``measure`` of every script that measures the networks of finished benchmarks."""
    one = commands.add_parser("measure")
    one.add_argument("name")
    one.add_argument("folders", nargs="+", type=Path)
    one.add_argument("--raw", type=Path, default=os.environ.get("nnUNet_raw"))
    one.add_argument("--csv", type=Path, required=True)


def main() -> None:
    """Measure, or print the judgement and keep it if wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    add_measure(commands)
    other = commands.add_parser("judge")
    other.add_argument("cases", type=Path)
    other.add_argument("--csv", type=Path)
    args = parser.parse_args()
    if args.command == "measure":
        parts = [measure(args.name, folder, args.raw) for folder in args.folders]
        add_rows(args.csv, parts)
        return
    table = pd.read_csv(args.cases, dtype={"case": str, "run": str})
    found = judge(dict(iter(table.groupby("pair", sort=False))))
    print(found.round(4).to_string(index=False))
    if args.csv:
        found.to_csv(args.csv, index=False, float_format="%.5f", lineterminator="\n")


if __name__ == "__main__":
    main()
