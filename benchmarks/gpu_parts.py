"""What the checks of ``gpu_check.py`` share: how a check notes what it found, the data, and commands beside commands."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

SOURCE, TARGET, UNLABELLED = 901, 902, 903
CONFIGURATION, PLANS = "3d_fullres", "nnUNetActivePlans"
OURS = [sys.executable, "-m", "nnunet_active.cli.main"]
STOCK = {
    "plan_and_preprocess": "nnunetv2.experiment_planning.plan_and_preprocess_entrypoints:plan_and_preprocess_entry",
    "preprocess": "nnunetv2.experiment_planning.plan_and_preprocess_entrypoints:preprocess_entry",
    "train": "nnunetv2.run.run_training:run_training_entry",
    "predict": "nnunetv2.inference.predict_from_raw_data:predict_entry_point_modelfolder",
}


class Check:
    """What a check is told, and the rows that it finds."""

    def __init__(self, name: str, work: Path, device: str, tiny: bool) -> None:
        self.work, self.device, self.tiny = work, device, tiny
        self.cuda = device == "cuda"
        self.file = work / f"{name}.json"
        self.rows: list[dict] = []

    def row(self, what: str, value: float | str, unit: str = "", wanted: str = "", met: bool | None = None) -> None:
        """Note a figure; the file is whole after each."""
        value = float(value) if isinstance(value, int | float | np.number) else value
        self.rows.append({"what": what, "value": value, "unit": unit, "wanted": wanted, "met": met})
        self.file.write_text(json.dumps(self.rows))

    def at_most(self, what: str, value: float, most: float, unit: str = "") -> None:
        self.row(what, value, unit, f"≤ {most:g}", bool(value <= most))

    @property
    def model(self) -> Path:
        return next(Path(os.environ["nnUNet_results"]).glob(f"Dataset{SOURCE}_*/nnUNetTrainer__*"))

    def wait(self) -> None:
        if self.cuda:
            import torch

            torch.cuda.synchronize()


def stock(command: str, *words: str) -> list[str]:
    module, function = STOCK[command].split(":")
    return [sys.executable, "-c", f"from {module} import {function} as main; main()", *map(str, words)]


def call(command: list[str], **variables: str) -> float:
    """Run a command and return its seconds, which the log of the check keeps; it has to succeed."""
    words = [str(word) for word in command]
    begin = time.perf_counter()
    subprocess.run(words, check=True, env={**os.environ, **variables})
    seconds = time.perf_counter() - begin
    print(f"--- {seconds:.1f} s: {' '.join(words[1:])}", flush=True)
    return seconds


def here(*words: str | int | Path) -> None:
    """Run a command of ours in this process, which has imported PyTorch and nnU-Net already; it has to succeed."""
    from nnunet_active.cli.main import main

    begin = time.perf_counter()
    code = main([str(word) for word in words])
    print(f"--- {time.perf_counter() - begin:.1f} s: {words[0]}", flush=True)
    if code:
        raise SystemExit(code)


# --- what the others need --------------------------------------------------------------------------------------------------------


def setup(check: Check) -> None:
    """Phantoms of 160³ voxels, stock plans, a source model after a short stock training; the target is planned and preprocessed."""
    from nnunet_active.demo.phantom import PhantomSizes, write_phantom_pair

    raw = Path(os.environ["nnUNet_raw"])
    pair = write_phantom_pair(raw, PhantomSizes(source=5, source_test=0, target_pool=8, target_test=0))
    if not check.tiny:
        stretch([pair.source_folder, pair.target_folder], (160, 160, 160))
    unlabelled = raw / f"Dataset{UNLABELLED}_PhantomUnlabelled"
    (unlabelled / "labelsTr").mkdir(parents=True)
    (unlabelled / "imagesTr").symlink_to(pair.target_folder / "imagesTr")
    (unlabelled / "dataset.json").write_bytes((pair.target_folder / "dataset.json").read_bytes())
    workers = str(min(8, os.cpu_count() or 1))
    plan = stock("plan_and_preprocess", "-d", SOURCE, "-c", CONFIGURATION, "-npfp", workers, "-np", workers)
    call([*plan, "--no_pp"] if check.tiny else plan)
    if check.tiny:
        shrink(Path(os.environ["nnUNet_preprocessed"]) / pair.source_name / "nnUNetPlans.json")
        call(stock("preprocess", "-d", SOURCE, "-c", CONFIGURATION, "-np", workers))
    check.row("training the source, step", train_source(check, pair.source_name), "s")
    for dataset in (TARGET, UNLABELLED):
        here("plan", "-d", dataset, "-m", check.model, "-c", CONFIGURATION)
    here("preprocess", "-d", TARGET, "-c", CONFIGURATION, "-np", workers)  # select does that for the other one


def stretch(folders: list[Path], shape: tuple[int, int, int]) -> None:
    """Resize every image and label in place; 1 mm a voxel. Packing takes longest, so every core packs."""
    files = sorted(file for folder in folders for file in folder.glob("*Tr/*.nii.gz"))
    with multiprocessing.get_context("spawn").Pool(min(16, os.cpu_count() or 1)) as pool:
        pool.map(partial(stretch_file, shape=shape), files, chunksize=1)


def stretch_file(file: Path, shape: tuple[int, int, int]) -> None:
    import SimpleITK as sitk
    from scipy.ndimage import zoom

    array = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
    factors = [new / old for new, old in zip(shape, array.shape, strict=True)]
    order = 0 if file.parent.name == "labelsTr" else 1
    sitk.WriteImage(sitk.GetImageFromArray(zoom(array, factors, order=order)), str(file))


def shrink(plans_file: Path) -> None:
    """Few features, for a CPU."""
    plans = json.loads(plans_file.read_text())
    arch = plans["configurations"][CONFIGURATION]["architecture"]["arch_kwargs"]
    arch["features_per_stage"] = [min(8, n) for n in arch["features_per_stage"]]
    plans_file.write_text(json.dumps(plans))


def train_source(check: Check, dataset: str) -> float:
    """The stock trainer for one short epoch of AdamW; seconds a step."""
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    trainer = get_trainer_from_args(
        dataset, CONFIGURATION, 0, "nnUNetTrainer", "nnUNetPlans", device=torch.device(check.device)
    )
    trainer.num_epochs, trainer.num_iterations_per_epoch = 1, 4 if check.tiny else 80
    trainer.num_val_iterations_per_epoch = 1
    os.environ["nnUNet_compile"] = "f"  # compiling takes longer than these steps
    trainer.initialize()
    trainer.optimizer = torch.optim.AdamW(trainer.network.parameters(), 1e-3)
    begin = time.perf_counter()
    trainer.run_training()
    return (time.perf_counter() - begin) / trainer.num_iterations_per_epoch


# --- commands beside commands ------------------------------------------------------------------------------------------------------


def select(check: Check) -> None:
    """``nnunet_active select`` on raw scans: preprocessing, scoring, choice."""
    words = ["-d", UNLABELLED, "-c", CONFIGURATION, "-n", 1, "--strategy", "mmacts", "--dry-run", "-np", 3]
    check.row("select, 8 raw scans of 160³", call([*OURS, "select", *words, "-device", check.device]), "s")


def predict(check: Check) -> None:
    """Stock prediction with probabilities of the same scans, with nnU-Net's own numbers of workers, without mirroring."""
    images = Path(os.environ["nnUNet_raw"]) / f"Dataset{UNLABELLED}_PhantomUnlabelled" / "imagesTr"
    words = ["-i", images, "-o", check.work / "predicted", "-m", check.model, "-f", 0, "--save_probabilities"]
    words += ["--disable_tta", "--disable_progress_bar", "-device", check.device]
    spent = call(stock("predict", *words))
    ours = json.loads((check.work / "select.json").read_text())[0]["value"]
    check.row("nnUNetv2_predict --save_probabilities, the same scans", spent, "s")
    check.at_most("select beside it", ours / spent, 1.0, "×")
