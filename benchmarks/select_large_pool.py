"""``nnunet_active select`` on a pool of 300 small cases beside ``nnUNetv2_predict`` on the same cases: time and peak memory.

    python benchmarks/select_large_pool.py [--cases 300] [--repeats 3] [--csv results.csv]

The cases are the 180 of the MSD hippocampus set (CC BY-SA 4.0) and mirrored copies of some of them; the model is the 3d_fullres source
model of 15 other cases. Three commands are timed, each from the raw images, one process with one thread each:

* ``select``: preprocesses, scores, chooses 5, writes the round and the hand-off folder;
* ``select again``: the same command with ``--dry-run`` afterwards (preprocessed cases and the scores of this very model are there);
* ``predict``: stock ``nnUNetv2_predict_from_modelfolder`` with ``--save_probabilities``, which is what a script of one's own would rank
  by; once as the command stands (mirroring), once with ``--disable_tta``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pandas as pd
import SimpleITK as sitk
from measuring import run_measured
from workspace import test_data

POOL, SOURCE = "Dataset004_Hippocampus", "Dataset003_HippocampusSource"


def make_pool(raw: Path, cases: int) -> None:
    """Link the images; what is missing to the number is mirrored from left to right."""
    (raw / "imagesTr").mkdir(parents=True)
    (raw / "labelsTr").mkdir()
    origin = test_data() / "nnUNet_raw" / POOL
    shutil.copy(origin / "dataset.json", raw)
    images = sorted((origin / "imagesTr").glob("*_0000.nii.gz"))
    for image in images[:cases]:
        (raw / "imagesTr" / image.name).symlink_to(image.resolve())
    for image in images[: max(0, cases - len(images))]:
        original = sitk.ReadImage(str(image))
        mirrored = sitk.GetImageFromArray(sitk.GetArrayFromImage(original)[..., ::-1])
        mirrored.CopyInformation(original)
        sitk.WriteImage(mirrored, str(raw / "imagesTr" / f"mirrored_{image.name}"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()
    programs = Path(sys.executable).parent
    model = test_data() / "models" / SOURCE / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    rows = []
    for repeat in range(args.repeats):
        with tempfile.TemporaryDirectory(prefix="select_large_pool_") as name:
            root = Path(name)
            for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
                (root / variable).mkdir()
                os.environ[variable] = str(root / variable)
            raw = root / "nnUNet_raw" / POOL
            make_pool(raw, args.cases)
            select = [str(programs / "nnunet_active"), "select", "-d", "4", "-c", "3d_fullres", "-m", str(model)]
            select += ["-n", "5", "--strategy", "mmacts", "-np", "1", "-device", "cpu"]
            predict = [
                str(programs / "nnUNetv2_predict_from_modelfolder"),
                "-i",
                str(raw / "imagesTr"),
                "-m",
                str(model),
            ]
            predict += ["-f", "0", "-device", "cpu", "-npp", "1", "-nps", "1", "--save_probabilities"]
            commands = {
                "select": select,
                "select again": [*select, "--dry-run", "--more"],
                "predict": [*predict, "-o", str(root / "predicted")],
                "predict without mirroring": [*predict, "-o", str(root / "predicted_plain"), "--disable_tta"],
            }
            for command, words in commands.items():
                measured = run_measured(words)
                row = {"repeat": repeat, "cases": args.cases, "command": command, "wall_s": measured.wall}
                row |= {"cpu_s": measured.cpu, "peak_mib": measured.peak_mib}
                rows.append(row)
                print(json.dumps(row), flush=True)
    table = pd.DataFrame(rows)
    median = table.groupby("command", sort=False)[["wall_s", "cpu_s", "peak_mib"]].median()
    for peer in ("predict", "predict without mirroring"):
        print(f"\nmedians of {args.repeats}, and relative to '{peer}':")
        print(median.join((median / median.loc[peer]).add_suffix(" ratio")).round(3).to_string())
    if args.csv:
        args.csv.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(args.csv, index=False)


if __name__ == "__main__":
    main()
