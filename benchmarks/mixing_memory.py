"""What a training step with ``unlabelled=mix`` costs beside a plain one, in processor time and memory.

    python benchmarks/mixing_memory.py --csv benchmarks/results/mixing_memory.csv

Real glioma scans, ``3d_fullres``, one thread, CPU. Three ways of a step take turns in one process:

* **plain**: nnU-Net's own step.
* **mix**: ours; the graphs of labelled and mixed samples are held one after the other.
* **together**: the same formula with one backward pass through all three graphs.

Memory: the growth of the resident memory during a step, whose peak is reset before it (Linux).
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from one_by_one import linked
from scoring_growth import resident_peak
from workspace import GLIOMA, PLANS, Workspace, glioma_model, test_data

CONFIGURATION, TRAINER, CASES = "3d_fullres", "nnUNetTrainerActiveAdamW", 6
WAYS = ("plain", "mix", "together")


def trainer(work: Path) -> Any:
    """A trainer in the second half of its first epoch, with one labelled case and a pool."""
    from nnunetv2.run.run_training import get_trainer_from_args

    from nnunet_active.cli.main import main as command
    from nnunet_active.nnunet_discovery import with_own_folder

    os.environ["nnUNet_extTrainer"] = with_own_folder()
    raw = test_data() / "nnUNet_raw" / GLIOMA
    cases = sorted(file.name.removesuffix(".nii.gz") for file in (raw / "labelsTr").glob("*.nii.gz"))[:CASES]
    linked(raw, cases, Workspace(work, GLIOMA, {}))
    words = ["-m", glioma_model(CONFIGURATION), "--strategy", "foreground_random", "--recipe", "guarded:unlabelled=mix"]
    words += ["-d", GLIOMA, "-c", CONFIGURATION, "-f", "all", "-device", "cpu", "-n", 1, "--epochs", 1]
    if command(["select", *map(str, words)]) != 0:
        raise SystemExit("select failed")
    found = get_trainer_from_args(GLIOMA, CONFIGURATION, "all", TRAINER, PLANS, device=torch.device("cpu"))
    found.on_train_start()
    found.on_epoch_start()
    found.on_train_epoch_start()
    found.mixing._step = found.num_iterations_per_epoch // 2
    return found


def steps_of(training: Any) -> dict[str, Callable[[dict], Any]]:
    """The three ways."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    mixing = training.mixing

    def together(batch: dict) -> None:
        training.optimizer.zero_grad(set_to_none=True)
        data, target = batch["data"], batch["target"]
        loss = training.loss(training.network(data), target)
        for image, wanted in mixing._mixed(data, target):
            loss = loss + mixing.weight * mixing._loss(training.network(image), wanted)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(training.network.parameters(), 12)
        training.optimizer.step()
        mixing.follow()

    return dict(
        zip(WAYS, (lambda batch: nnUNetTrainer.train_step(training, batch), training.train_step, together), strict=True)
    )


def main() -> None:
    """Measure in turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()
    if (
        os.environ.get("MALLOC_MMAP_THRESHOLD_") != "65536"
    ):  # otherwise, freed tensors stay in the heap and hide the next peak
        os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
        os.execv(sys.executable, [sys.executable, *sys.argv])
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        os.environ |= {f"nnUNet_{name}": str(work / f"nnUNet_{name}") for name in ("raw", "preprocessed", "results")}
        os.environ |= {"nnUNet_n_proc_DA": "0", "nnUNet_compile": "f"}
        training = trainer(work)
        steps, batch = steps_of(training), next(training.dataloader_train)
        for turn in range(-1, args.turns):  # the first turn makes the optimizer's state
            for way in WAYS:
                before, start = resident_peak(reset=True), time.process_time()
                steps[way](batch)
                row = {
                    "way": way,
                    "turn": turn,
                    "seconds": time.process_time() - start,
                    "mib": resident_peak() - before,
                }
                rows += [row] if turn >= 0 else []
        training.session.end()
    if args.csv:
        with args.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows({**row, "seconds": f"{row['seconds']:.3f}", "mib": f"{row['mib']:.1f}"} for row in rows)
    median = {
        way: {name: float(np.median([row[name] for row in rows if row["way"] == way])) for name in ("seconds", "mib")}
        for way in WAYS
    }
    print("| way | processor time | memory |\n|---|---|---|")
    for way, found in median.items():
        seconds, mib = (found[name] / median["plain"][name] for name in ("seconds", "mib"))
        print(f"| {way} | {found['seconds']:.1f} s ({seconds:.2f}) | {found['mib']:.0f} MiB ({mib:.2f}) |")


if __name__ == "__main__":
    main()
