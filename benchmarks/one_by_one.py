"""``guarded`` where scans are labelled one by one between trainings: does the gate open where it should?

    python benchmarks/one_by_one.py glioma --seed 0 --csv results/one_by_one.csv
    python benchmarks/gate.py judge results/one_by_one.csv

One campaign as a user runs it: ``nnunet_active select -n 1``, the training, and again, ``--rounds`` times. Half of the cases (of the
pair ``diseased`` those of ``--split-file``) are no part of the data set; the network at every alpha is measured on these after each
training. The rows are those of ``gate.py``. Every training has ``--epochs`` epochs, however many scans are labelled.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from gate import ALPHAS
from guard import add_rows, predicted_at, thinned, trained_weights
from slices import DATA, PAIRS
from workspace import ENDING, PLANS, Workspace

if TYPE_CHECKING:
    from nnunet_active.benchmark.case_metrics import Evaluator

STRATEGY = "foreground_random"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pair", choices=PAIRS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--raw", type=Path, default=DATA / "nnUNet_raw", help="folder with the target data sets")
    parser.add_argument("--split-file", type=Path, help="a splits_final.json; fold 0 is tested on")
    parser.add_argument("-c", dest="configuration", default="2d")
    parser.add_argument("--recipe", default="guarded", help="as in select, e.g. guarded:unlabelled=mix")
    parser.add_argument("-tr", dest="trainer", default="nnUNetTrainerActiveAdamW")
    parser.add_argument("-device", default="cpu")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--csv", type=Path, required=True)
    return parser.parse_args()


def parts_of(raw: Path, split_file: Path | None) -> tuple[list[str], list[str]]:
    """Cases to choose from and cases to test on (of more than 40 every third)."""
    if split_file is None:
        from nnunetv2.utilities.crossval_split import generate_crossval_split

        cases = sorted(file.name.removesuffix(ENDING) for file in (raw / "labelsTr").glob(f"*{ENDING}"))
        split = generate_crossval_split(cases, n_splits=2)[0]
    else:
        split = json.loads(split_file.read_text())[0]
    return list(split["train"]), list(thinned(split["val"]))


def linked(raw: Path, cases: Sequence[str], workspace: Workspace) -> dict[str, Any]:
    """Link images and labels of these cases into a raw data set of their own; returns its ``dataset.json``."""
    (workspace.raw / "labelsTr").mkdir(parents=True)
    for case in cases:
        workspace.add_images(case, sorted((raw / "imagesTr").glob(f"{case}_????{ENDING}")))
        (workspace.raw / "labelsTr" / f"{case}{ENDING}").symlink_to((raw / "labelsTr" / f"{case}{ENDING}").resolve())
    content = json.loads((raw / "dataset.json").read_text()) | {"numTraining": len(cases)}
    (workspace.raw / "dataset.json").write_text(json.dumps(content))
    return content


def tested(test: Evaluator, trained: dict[str, torch.Tensor], alpha: float) -> list[dict[str, Any]]:
    """A row per test case: mean Dice over classes by the weights so far from the source."""
    from nnunet_active.data.label_agreement import compare

    rows = []
    for case, label, predicted, _ in predicted_at(test, trained, alpha):
        dice = compare(label, np.where(label < 0, 0, predicted), test.dataset_json["labels"], 1.0)["dice"]
        rows.append({"kind": "test", "alpha": alpha, "case": case, "dice": pd.Series(dice).mean()})
    return rows


def train(trainer: str, dataset: str, configuration: str, device: str) -> tuple[dict[str, torch.Tensor], list[dict]]:
    """``nnUNetv2_train`` without its validation; the trained weights, and the cases that judged."""
    from nnunetv2.run.run_training import get_trainer_from_args

    training = get_trainer_from_args(dataset, configuration, "all", trainer, PLANS, device=torch.device(device))
    training.run_training()
    trained = trained_weights(Path(training.output_folder) / "checkpoint_final.pth")
    return trained, training.choice.latest.get("by_case", [])


def main() -> None:
    """One campaign."""
    args = arguments()
    work = Path(tempfile.mkdtemp(prefix="one_by_one_"))
    source, dataset = PAIRS[args.pair]
    (model,) = (DATA / "models" / source).glob(f"*__{args.configuration}")
    os.environ |= {f"nnUNet_{name}": str(work / f"nnUNet_{name}") for name in ("raw", "preprocessed", "results")}
    os.environ |= {"nnUNet_n_proc_DA": "0", "nnUNet_compile": "f"}
    from nnunet_active.benchmark.case_metrics import Evaluator
    from nnunet_active.benchmark.target import SharedTarget
    from nnunet_active.cli.main import main as command
    from nnunet_active.nnunet_discovery import with_own_folder

    os.environ["nnUNet_extTrainer"] = with_own_folder()
    torch.set_num_threads(1)
    pool, tests = parts_of(args.raw / dataset, args.split_file)
    linked(args.raw / dataset, pool, Workspace(work, dataset, {}))
    apart = Workspace(work / "test", dataset, {args.configuration: model})
    apart.prepare(linked(args.raw / dataset, tests, apart))
    target = SharedTarget(apart.raw.parent, apart.preprocessed.parent, dataset, PLANS, args.configuration)
    test = Evaluator(target, tuple(tests), args.device, 1.0)
    at = {"pair": args.pair, "unit": "case", "strategy": STRATEGY}
    here = ["-d", dataset, "-c", args.configuration, "-f", "all", "-device", args.device]
    first = ["-m", str(model), "--strategy", STRATEGY, "--seed", str(args.seed), "--recipe", args.recipe]
    first += ["--epochs", str(args.epochs), "--iterations", str(args.iterations), "--val-iterations", "1"]
    for labels in range(1, args.rounds + 1):
        if command(["select", *here, "-n", "1", *(first if labels == 1 else [])]) != 0:
            raise SystemExit("select failed")
        trained, judged = train(args.trainer, dataset, args.configuration, args.device)
        network = {**at, "labels": labels, "scans": labels, "seed": args.seed}
        found = [{**network, **row} for alpha in ALPHAS for row in tested(test, trained, alpha)]
        for row in judged:
            case = {name: row.pop(name) for name in ("kind", "case", "weight")}
            found += [{**network, **case, "alpha": float(alpha), "dice": dice} for alpha, dice in row.items()]
        add_rows(args.csv, [pd.DataFrame(found)])
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
