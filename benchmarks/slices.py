"""Whole scans against slices spread over many scans, at the same number of labelled slices; prints a Markdown table.

    python benchmarks/slices.py glioma --seeds 3 --csv results.csv

A whole scan costs as many slices as its label has with foreground, so that nobody is charged for empty ones. The mean of these over the
data set, times ``--scans``, is the budget of slices; whole scans are drawn by foreground, the other arms spend the same number, or a
third of it, on slices of all scans of the pool. Every arm is one query before the first epoch and one training (``nnunet_active
benchmark``, half of the cases tested on). Minutes: ``--open`` minutes for opening a scan, one minute for a slice.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk

DATA = Path(os.environ.get("NNUNET_ACTIVE_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
PAIRS = {
    "glioma": ("Dataset203_GliomaSource", "Dataset204_GliomaTarget"),
    "cardiac": ("Dataset201_CardiacCine", "Dataset202_CardiacLGE"),
    "hippocampus": ("Dataset003_HippocampusSource", "Dataset004_Hippocampus"),
}
WHOLE = ("foreground_random:one_off", "mmacts:one_off")
SLICES = (
    "foreground_random:one_off",
    "foreground_random:one_off:slices=centre",
    "foreground_random:one_off:slices=random",
)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pair", choices=PAIRS)
    parser.add_argument("--raw", type=Path, default=DATA / "nnUNet_raw", help="folder with the target data sets")
    parser.add_argument("--work", type=Path, help="folder to work in (default: a temporary one)")
    parser.add_argument("-c", dest="configuration", default="2d")
    parser.add_argument("-tr", dest="trainer", default="nnUNetTrainerActiveAdamW")
    parser.add_argument("-device", default="cpu")
    parser.add_argument("--recipe", default="three_quarters")
    parser.add_argument("--scans", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--open", type=float, default=2.0, help="minutes for opening a scan")
    parser.add_argument("--csv", type=Path)
    return parser.parse_args()


def labelled_slices(raw: Path) -> float:
    """Mean number of slices with foreground, along the third axis, over all labels of a data set."""
    counts = []
    for file in sorted((raw / "labelsTr").glob("*.nii.gz")):
        label = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
        counts.append(int((label > 0).any(axis=(1, 2)).sum()))
    return float(np.mean(counts))


def benchmark(args: argparse.Namespace, output: Path, arms: tuple[str, ...], budget: int, *unit: str) -> None:
    from nnunet_active.cli.main import main

    source, target = PAIRS[args.pair]
    (model,) = (DATA / "models" / source).glob(f"*__{args.configuration}")
    command = ["benchmark", "-d", target, "-c", args.configuration, "-m", str(model), "-o", str(output), "-np", "1"]
    command += [
        "-device",
        args.device,
        "-tr",
        args.trainer,
        "--recipes",
        args.recipe,
        "--splits",
        "2",
        "--no-all-labels",
    ]
    command += ["--budget", str(budget), "--query-size", str(budget), "--stride", str(args.epochs)]
    command += ["--epochs", str(args.epochs), "--iterations", str(args.iterations), "--seeds", str(args.seeds)]
    if main([*command, *unit, "--strategies", *arms]) != 0:
        raise SystemExit("a run failed; see log.txt in its folder")


def rows(output: Path, per_scan: float, open_minutes: float) -> pd.DataFrame:
    from nnunet_active.benchmark.results import rows_of

    found = [
        row for file in sorted((output / "runs").glob("*/result.json")) for row in rows_of(json.loads(file.read_text()))
    ]
    table = pd.DataFrame(found)
    table = table[table["class"] == "mean"]
    whole = table["unit"] == "case"
    table["slices"] = (table["labels"] * np.where(whole, per_scan, 1)).round(1)
    table["minutes"] = table["slices"] + open_minutes * table["opened"]
    return table


def main() -> None:
    args = arguments()
    work = args.work or Path(tempfile.mkdtemp())
    os.environ |= {
        "nnUNet_raw": str(args.raw),
        "nnUNet_preprocessed": str(work / "unused"),
        "nnUNet_results": str(work / "unused"),
    }
    per_scan = labelled_slices(args.raw / PAIRS[args.pair][1])
    budget = round(per_scan * args.scans)
    print(f"{per_scan:.1f} slices with foreground a scan; {args.scans} scans: {budget} slices")
    benchmark(args, work / "benchmark", WHOLE, args.scans)
    for slices in (budget, round(budget / 3)):
        benchmark(args, work / "benchmark", SLICES, slices, "--unit", "slice", "--per-case", str(slices))
    table = rows(work / "benchmark", per_scan, args.open)
    if args.csv:
        table.to_csv(args.csv, index=False)
    print("| arm | unit | slices | scans | minutes | Dice (mean ± std) | runs |\n|---|---|---|---|---|---|---|")
    for (arm, unit, _), group in table.groupby(["arm", "unit", "labels"], sort=False):
        print(
            f"| {arm} | {unit} | {group['slices'].mean():.0f} | {group['scans'].mean():.1f} | {group['minutes'].mean():.0f} | "
            f"{group['dice'].mean():.3f} ± {group['dice'].std():.3f} | {len(group)} |"
        )


if __name__ == "__main__":
    main()
