"""Before round 1 our trainer predicts what the stock nnU-Net predicts with the source model: how close, on all target cases.

    python benchmarks/predictions_equal.py --csv benchmarks/results/predictions_equal.csv

Glioma pair (203 -> 204). *stock*: ``nnUNetv2_predict_from_modelfolder --save_probabilities --disable_tta`` with the source
model on the raw images. *ours*: the network of an initialised ``nnUNetTrainerMmActS`` (plans from ``nnunet_active plan``, all
source weights carried over) on the cases that ``nnunet_active preprocess`` wrote, brought back to the raw geometry by
nnU-Net's own function. Prints the mean absolute difference of the probabilities over voxels and classes (should be below
1e-3), the largest one, and the share of voxels whose class differs. Exits with 1 if the mean of a case is above.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from measuring import ONE_THREAD, run_measured
from scoring import PREDICT
from workspace import GLIOMA, PLANS, Workspace, glioma_cases, glioma_dataset_json, glioma_model

LIMIT = 1e-3


def our_trainer(workspace: Workspace, configuration: str):
    import torch

    from nnunet_active.trainers.nnUNetTrainerMmActS import nnUNetTrainerMmActS

    plans = json.loads((workspace.preprocessed / f"{PLANS}.json").read_text())
    trainer = nnUNetTrainerMmActS(
        {**plans, "continue_training": False}, configuration, "all", glioma_dataset_json(), torch.device("cpu")
    )
    with contextlib.redirect_stdout(io.StringIO()):  # it logs what it was given
        trainer.initialize()
    return trainer


def our_probabilities(trainer, case: str) -> np.ndarray:
    from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape

    from nnunet_active.nnunet.inference import SlidingWindow

    plans, configuration = trainer.plans_manager, trainer.configuration_name
    window = SlidingWindow(trainer.network, plans.plans, configuration, trainer.dataset_json, trainer.device)
    store = trainer.session.store
    _, probabilities = convert_predicted_logits_to_segmentation_with_correct_shape(
        window.logits(store.load_image(case)),
        plans,
        trainer.configuration_manager,
        trainer.label_manager,
        store.properties(case),
        return_probabilities=True,
    )
    return probabilities


def compare(workspace: Workspace, configuration: str, cases: list[str], output: Path) -> list[dict]:
    images = workspace.links_to(cases, output / "images")
    flags = ["-i", str(images), "-o", str(output), "-m", str(workspace.models[configuration]), "-f", "0"]
    flags += [
        "-device",
        "cpu",
        "-npp",
        "1",
        "-nps",
        "1",
        "--save_probabilities",
        "--disable_tta",
        "--disable_progress_bar",
    ]
    run_measured([sys.executable, "-c", PREDICT, *flags])
    trainer = our_trainer(workspace, configuration)
    rows = []
    for case in cases:
        with np.load(output / f"{case}.npz") as content:
            stock = content["probabilities"].astype(np.float64)
        ours = our_probabilities(trainer, case)
        difference = np.abs(ours - stock)
        rows.append(
            {
                "configuration": configuration,
                "case": case,
                "mean_absolute_difference": difference.mean(),
                "largest_difference": difference.max(),
                "voxels_of_another_class": (ours.argmax(0) != stock.argmax(0)).mean(),
                "predicted_foreground": (stock.argmax(0) > 0).mean(),
            }
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=None, help="only so many cases (default: all)")
    parser.add_argument("-c", dest="configurations", nargs="+", default=["2d", "3d_fullres"])
    parser.add_argument("--csv", type=Path, help="write one row per case to this file")
    args = parser.parse_args()
    os.environ.update(ONE_THREAD)
    cases = glioma_cases()[: args.cases]
    rows: list[dict] = []
    with tempfile.TemporaryDirectory() as temporary:
        workspace = Workspace(Path(temporary), GLIOMA, {name: glioma_model(name) for name in args.configurations})
        for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            (workspace.root / variable).mkdir()
            os.environ[variable] = str(workspace.root / variable)
        workspace.add_glioma_cases(cases)
        workspace.prepare(glioma_dataset_json())
        for configuration in args.configurations:
            # one campaign per fold: the next configuration begins its own
            campaign = workspace.preprocessed / "active" / "fold_all"
            if campaign.exists():
                campaign.rename(campaign.with_name(f"fold_all_{len(rows)}"))
            rows += compare(workspace, configuration, cases, workspace.root / configuration)
    print(
        "| configuration | cases | mean absolute difference: mean, worst case | largest voxel | voxels of another class |"
    )
    print("|---|---|---|---|---|")
    for configuration in args.configurations:
        mine = [row for row in rows if row["configuration"] == configuration]
        means = [row["mean_absolute_difference"] for row in mine]
        largest = max(row["largest_difference"] for row in mine)
        other = np.mean([row["voxels_of_another_class"] for row in mine])
        print(
            f"| {configuration} | {len(mine)} | {np.mean(means):.2e}, {max(means):.2e} | {largest:.2e} | {other:.2e} |"
        )
    if args.csv:
        args.csv.parent.mkdir(parents=True, exist_ok=True)
        with args.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    return int(max(row["mean_absolute_difference"] for row in rows) >= LIMIT)


if __name__ == "__main__":
    sys.exit(main())
