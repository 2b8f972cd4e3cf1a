"""One adaptation of a real source-target pair through the commands alone, as a user types them; prints a Markdown table.

    python benchmarks/adaptation.py glioma -c 3d_fullres --epochs 12 --stride 4 --iterations 20 --csv results.csv

Steps: ``nnunet_active plan``, ``preprocess``, ``init``, the stock ``nnUNetv2_train`` (killed in the middle and continued with ``--c``
where ``--kill-at-epoch`` is given), the stock ``nnUNetv2_predict`` for the adapted model and ``nnUNetv2_predict_from_modelfolder`` for
the source model (fitted to the target's channels), both without mirroring. Dice and IoU are nnU-Net's own (``compute_metrics``),
averaged over cases, on the fold's held-out cases and on every case that was never trained on.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

DATA = Path(os.environ.get("NNUNET_ACTIVE_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
PAIRS = {
    "glioma": (203, "Dataset203_GliomaSource", "Dataset204_GliomaTarget"),
    "glioma2015": (203, "Dataset203_GliomaSource", "Dataset205_GliomaBraTS2015"),
    "cardiac": (201, "Dataset201_CardiacCine", "Dataset202_CardiacLGE"),
    "cardiac_two_channels": (201, "Dataset201_CardiacCine", "Dataset212_CardiacLGETwoChannels"),
    "hippocampus": (3, "Dataset003_HippocampusSource", "Dataset004_Hippocampus"),
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pair", choices=PAIRS)
    parser.add_argument("--raw", type=Path, default=DATA / "nnUNet_raw", help="folder with the target data sets")
    parser.add_argument("--work", type=Path, help="folder to work in (default: a temporary one)")
    parser.add_argument("-c", dest="configuration", default="3d_fullres")
    parser.add_argument("-f", dest="fold", default="0")
    parser.add_argument("-device", default="cpu")
    parser.add_argument("--strategy", default="mmacts")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--stride", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--lr", type=float, help="initial learning rate (default: the trainer's own)")
    parser.add_argument("--budget", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--labelled-only", action="store_true", help="leave cases without a label out (retrospective)")
    parser.add_argument(
        "--kill-at-epoch", type=int, help="SIGKILL the training when its log reaches this epoch, then --c"
    )
    parser.add_argument("--csv", type=Path)
    return parser.parse_args()


def run(*command: str, log: Path) -> None:
    """Run a command to its end; what it printed is in ``log``."""
    print("$", " ".join(command), flush=True)
    with log.open("a") as file:
        subprocess.run(command, check=True, stdout=file, stderr=subprocess.STDOUT)


def train(command: list[str], log: Path, kill_at_epoch: int | None) -> None:
    if kill_at_epoch is not None:
        print("$", " ".join(command), f"  # killed at epoch {kill_at_epoch}", flush=True)
        with log.open("a") as file:
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        while process.poll() is None and not re.search(rf"Epoch {kill_at_epoch}\s*$", log.read_text(), re.M):
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        command = [*command, "--c"]
    run(*command, log=log)


def evaluate(reference: Path, predicted: Path, labels: dict[str, int]) -> pd.DataFrame:
    """Dice and IoU of every case and class."""
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    classes = {value: name for name, value in labels.items() if value != 0}
    rows = []
    for file in sorted(predicted.glob("*.nii.gz")):
        if not (reference / file.name).is_file():
            continue
        metrics = compute_metrics(str(reference / file.name), str(file), SimpleITKIO(), list(classes))["metrics"]
        for value, name in classes.items():
            rows.append(
                {
                    "case": file.name.removesuffix(".nii.gz"),
                    "class": name,
                    "Dice": metrics[value]["Dice"],
                    "IoU": metrics[value]["IoU"],
                }
            )
    return pd.DataFrame(rows)


def add_second_channel(source: Path, target: Path) -> None:
    """A two-channel target from a one-channel one: the second channel is the first after a median filter."""
    import SimpleITK as sitk

    shutil.copytree(source, target)
    for file in sorted((target / "imagesTr").glob("*_0000.nii.gz")):
        filtered = sitk.Median(sitk.ReadImage(str(file)), (1, 1, 0))
        sitk.WriteImage(filtered, str(file).replace("_0000.nii.gz", "_0001.nii.gz"))
    content = json.loads((target / "dataset.json").read_text())
    content["channel_names"] = {"0": "LGE", "1": "LGE median"}
    (target / "dataset.json").write_text(json.dumps(content))


def prepare(args: argparse.Namespace, work: Path) -> tuple[Path, Path]:
    """Copy the target; returns its folder and the source model's."""
    _, source, target = PAIRS[args.pair]
    raw = work / "nnUNet_raw" / target
    raw.parent.mkdir(parents=True, exist_ok=True)
    if args.pair == "cardiac_two_channels":
        add_second_channel(args.raw / "Dataset202_CardiacLGE", raw)
    else:
        shutil.copytree(args.raw / target, raw)
    if args.labelled_only:
        labelled = {file.name.removesuffix(".nii.gz") for file in (raw / "labelsTr").iterdir()}
        for file in (raw / "imagesTr").iterdir():
            if file.name[: -len("_0000.nii.gz")] not in labelled:
                file.unlink()
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (work / variable).mkdir(exist_ok=True)
        os.environ[variable] = str(work / variable)
    for name, value in (("nnUNet_n_proc_DA", "0"), ("nnUNet_compile", "f"), ("nnUNet_def_n_proc", "2")):
        os.environ.setdefault(name, value)
    return raw, DATA / "models" / source / f"nnUNetTrainer__nnUNetPlans__{args.configuration}"


def carried_over(name: str, configuration: str, work: Path) -> Path:
    """The source network as it is before the first epoch, fitted to the target's channels, as a stock model folder."""
    from dataclasses import replace

    from nnunet_active.models.model_writing import save_source_model
    from nnunet_active.models.source_model import carry_over, read_source_model
    from nnunet_active.nnunet.networks import build_network

    base = Path(os.environ["nnUNet_preprocessed"]) / name
    plans, dataset_json = (json.loads((base / file).read_text()) for file in ("nnUNetActivePlans.json", "dataset.json"))
    source = read_source_model(base / "active" / "source" / f"nnUNetActivePlans__{configuration}")
    network = build_network(plans, configuration, dataset_json)
    carry_over(network, source, plans, dataset_json)
    model = work / "source_carried_over"
    carried = replace(source, plans=plans, dataset_json=dataset_json, weights=network.state_dict(), fold="0")
    save_source_model(replace(carried, trainer_name="nnUNetTrainer"), model)
    return model


def main() -> None:
    args = arguments()
    work = args.work or Path(tempfile.mkdtemp(prefix="adaptation_"))
    work.mkdir(parents=True, exist_ok=True)
    raw, model = prepare(args, work)
    programs = Path(sys.executable).parent
    ours, log = str(programs / "nnunet_active"), work / "log.txt"
    os.environ["nnUNet_extTrainer"] = subprocess.run(
        [ours, "trainers"], capture_output=True, text=True, check=True
    ).stdout.strip()
    name, c, f = raw.name, args.configuration, args.fold
    run(ours, "plan", "-d", name, "-m", str(model), "-c", c, log=log)
    run(ours, "preprocess", "-d", name, "-c", c, "-np", "2", log=log)
    options = {
        "strategy": args.strategy,
        "stride": args.stride,
        "epochs": args.epochs,
        "iterations": args.iterations,
        "val-iterations": 2,
        "budget": args.budget,
        "seed": args.seed,
        "oracle": "retrospective",
        **({} if args.lr is None else {"lr": args.lr}),
    }
    flags = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    run(ours, "init", "-d", name, "-c", c, "-f", f, *flags, log=log)
    trainer = "nnUNetTrainerMmActS" if args.strategy == "mmacts" else "nnUNetTrainerActive"
    start = time.perf_counter()
    command = [str(programs / "nnUNetv2_train"), name, c, f, "-tr", trainer, "-p", "nnUNetActivePlans"]
    train([*command, "-device", args.device], log, args.kill_at_epoch)
    seconds = time.perf_counter() - start
    predict = ["--disable_tta", "-device", args.device, "-npp", "1", "-nps", "1"]
    folders = {"source": work / "predicted_source", "adapted": work / "predicted_adapted"}
    images = work / "images"
    images.mkdir(exist_ok=True)
    channels = json.loads((raw / "dataset.json").read_text())["channel_names"]
    for file in (raw / "labelsTr").glob("*.nii.gz"):
        for channel in range(len(channels)):
            shutil.copy(raw / "imagesTr" / file.name.replace(".nii.gz", f"_{channel:04d}.nii.gz"), images)
    run(
        str(programs / "nnUNetv2_predict_from_modelfolder"),
        *("-i", str(images), "-o", str(folders["source"]), "-m", str(carried_over(name, c, work)), "-f", "0", *predict),
        log=log,
    )
    run(
        str(programs / "nnUNetv2_predict"),
        *("-i", str(images), "-o", str(folders["adapted"]), "-d", name, "-c", c, "-f", f, "-tr", trainer),
        *("-p", "nnUNetActivePlans", *predict),
        log=log,
    )
    report(args, work, raw, folders, seconds)


def report(args: argparse.Namespace, work: Path, raw: Path, folders: dict[str, Path], seconds: float) -> None:
    campaign = json.loads(
        (
            Path(os.environ["nnUNet_preprocessed"]) / raw.name / "active" / f"fold_{args.fold}" / "campaign.json"
        ).read_text()
    )
    labels = json.loads((raw / "dataset.json").read_text())["labels"]
    trained = set(campaign["labelled"]) | set(campaign["initial"])
    rows = []
    for model, folder in folders.items():
        if not folder.is_dir():
            continue
        metrics = evaluate(raw / "labelsTr", folder, labels)
        for where, cases in (("held out", set(campaign["val"])), ("not trained on", set(metrics["case"]) - trained)):
            chosen = metrics[metrics["case"].isin(cases)]
            for label, group in [*chosen.groupby("class", sort=False), ("mean", chosen)]:
                row = {"pair": args.pair, "configuration": args.configuration, "model": model, "cases": where}
                row |= {"n": group["case"].nunique(), "class": label}
                row |= {metric: float(np.nanmean(group[metric])) for metric in ("Dice", "IoU")}
                rows.append(row)
    table = pd.DataFrame(rows)
    for key in ("strategy", "epochs", "stride", "iterations", "lr", "budget", "seed"):
        table[key] = getattr(args, key)
    table["queried"] = " ".join(case for one in campaign["rounds"] for case in one["requested"])
    table["training_seconds"] = round(seconds, 1)
    print(table.drop(columns=["queried"]).round(3).to_string(index=False))
    for one in campaign["rounds"]:
        selection = json.loads(
            (
                Path(os.environ["nnUNet_preprocessed"])
                / raw.name
                / "active"
                / f"fold_{args.fold}"
                / f"round_{one['number']:03d}"
                / "selection.json"
            ).read_text()
        )
        elected = {case: entry["name"] for case, entry in selection["dominant_modality"].items()}
        print(f"round {one['number']} before epoch {one['epoch']}: {elected}")
    if args.csv:
        args.csv.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(args.csv, mode="a", header=not args.csv.exists(), index=False)
    print(f"everything is in {work.name}")


if __name__ == "__main__":
    main()
