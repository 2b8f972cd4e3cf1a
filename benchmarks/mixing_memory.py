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
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from one_by_one import linked
from scoring_growth import resident_peak
from workspace import ENDING, GLIOMA, PLANS, Workspace, glioma_model, test_data

CONFIGURATION, TRAINER, CASES = "3d_fullres", "nnUNetTrainerActiveAdamW", 6


def trainer(work: Path) -> Any:
    """A trainer in the second half of its first epoch, with one labelled case and a pool."""
    from nnunetv2.run.run_training import get_trainer_from_args

    from nnunet_active.cli.main import main as command
    from nnunet_active.nnunet_discovery import with_own_folder

    os.environ["nnUNet_extTrainer"] = with_own_folder()
    raw = test_data() / "nnUNet_raw" / GLIOMA
    cases = sorted(file.name.removesuffix(ENDING) for file in (raw / "labelsTr").glob(f"*{ENDING}"))[:CASES]
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

    return {
        "plain": lambda batch: nnUNetTrainer.train_step(training, batch),
        "mix": training.train_step,
        "together": together,
    }


def main() -> None:
    """Measure in turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()
    # otherwise, freed tensors stay in the heap and hide the next peak
    if os.environ.get("MALLOC_MMAP_THRESHOLD_") != "65536":
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
            for way, step in steps.items():
                before, start = resident_peak(reset=True), time.process_time()
                step(batch)
                spent = time.process_time() - start, resident_peak() - before
                rows += [(way, turn, *spent)] if turn >= 0 else []
        training.session.end()
    table = pd.DataFrame(rows, columns=["way", "turn", "seconds", "mib"])
    if args.csv:
        table.round({"seconds": 3, "mib": 1}).to_csv(args.csv, index=False)
    median = table.groupby("way", sort=False)[["seconds", "mib"]].median()
    ratios = median / median.loc["plain"]
    print("| way | processor time | memory |\n|---|---|---|")
    for way, found in median.iterrows():
        seconds, mib = ratios.loc[way]
        print(f"| {way} | {found['seconds']:.1f} s ({seconds:.2f}) | {found['mib']:.0f} MiB ({mib:.2f}) |")


if __name__ == "__main__":
    main()
