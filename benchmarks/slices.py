"""Whole scans against slices spread over many scans, at the same number of labelled slices; prints a Markdown table.

    python benchmarks/slices.py glioma --seeds 5 --csv results/slices_glioma.csv

A whole scan costs as many slices as its label has with foreground, so that nobody is charged for empty ones. The mean of these over
the data set, times ``--scans``, is the budget of slices. Whole scans are drawn by foreground; the other arms spend as many slices,
three of a scan, and a third of them, one of a scan (``--per-case``). Every arm is one query before the first epoch and one
training, or ``--rounds`` of both, each as large and as long as the first (``nnunet_active benchmark``, half of the cases tested on;
the pair ``diseased`` has a split of its own, see ``healthy_to_diseased.py``). Minutes: ``--open`` minutes for opening a scan, one
minute for a slice. The last table compares each arm of slices with whole scans drawn by foreground, paired by seed (two-sided t
test).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk
from scipy import stats

DATA = Path(os.environ.get("NNUNET_ACTIVE_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
PAIRS = {
    "glioma": ("Dataset203_GliomaSource", "Dataset204_GliomaTarget"),
    "cardiac": ("Dataset201_CardiacCine", "Dataset202_CardiacLGE"),
    "hippocampus": ("Dataset003_HippocampusSource", "Dataset004_Hippocampus"),
    "diseased": ("Dataset206_CardiacHealthy", "Dataset207_CardiacDiseased"),
}
RANDOM = "foreground_random:one_off"
WHOLE = (RANDOM, "mmacts:one_off")
SLICES = (RANDOM, f"{RANDOM}:slices=centre", f"{RANDOM}:slices=random")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pair", choices=PAIRS)
    parser.add_argument("--raw", type=Path, default=DATA / "nnUNet_raw", help="folder with the target data sets")
    parser.add_argument("--work", type=Path, help="folder to work in (default: a temporary one)")
    parser.add_argument("-c", dest="configuration", default="2d")
    parser.add_argument("-tr", dest="trainer", default="nnUNetTrainerActiveAdamW")
    parser.add_argument("-device", default="cpu")
    parser.add_argument("--recipe", default="three_quarters")
    parser.add_argument("--scans", type=int, default=3, help="whole scans per round")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--per-case", type=int, nargs="+", default=[3, 1], help="of three: slices of a scan")
    parser.add_argument("--seeds", type=int, nargs="+", default=[5], help="one number n means the seeds 0 to n - 1")
    parser.add_argument("--whole", nargs="*", default=WHOLE, help="arms that ask for whole scans")
    parser.add_argument("--slices", nargs="*", default=SLICES, help="arms that ask for slices")
    parser.add_argument("--split-file", type=Path, help="a splits_final.json; fold 0 is tested on")
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


def benchmark(args: argparse.Namespace, output: Path, arms: Sequence[str], budget: int, *unit: str) -> None:
    from nnunet_active.cli.main import main

    source, target = PAIRS[args.pair]
    (model,) = (DATA / "models" / source).glob(f"*__{args.configuration}")
    command = ["benchmark", "-d", target, "-c", args.configuration, "-m", str(model), "-o", str(output), "-np", "1"]
    command += ["-device", args.device, "-tr", args.trainer, "--recipes", args.recipe, "--no-all-labels"]
    command += ["--split-file", str(args.split_file)] if args.split_file else ["--splits", "2"]
    command += ["--budget", str(args.rounds * budget), "--query-size", str(budget), "--stride", str(args.epochs)]
    command += ["--epochs", str(args.rounds * args.epochs), "--iterations", str(args.iterations)]
    command += ["--seeds", *map(str, args.seeds)]
    code = main([*command, *unit, "--strategies", *arms])
    if code != 0:  # the command has said what it refuses
        raise SystemExit("a run failed; see log.txt in its folder" if code == 1 else code)


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
    if args.whole:
        benchmark(args, work / "benchmark", args.whole, args.scans)
    for per_case in args.per_case if args.slices else ():
        slices = ["--unit", "slice", "--per-case", str(per_case)]
        benchmark(args, work / "benchmark", args.slices, round(budget * per_case / 3), *slices)
    table = rows(work / "benchmark", per_scan, args.open)
    if args.csv:
        table.to_csv(args.csv, index=False)
    print_means(table)
    print_differences(table)


def print_means(table: pd.DataFrame) -> None:
    """One row for each arm and number of labelled slices."""
    print("| arm | unit | slices | scans | minutes | Dice (mean ± std) | runs |\n|---|---|---|---|---|---|---|")
    for (arm, unit, _), group in table.groupby(["arm", "unit", "labels"], sort=False):
        print(
            f"| {arm} | {unit} | {group['slices'].mean():.0f} | {group['scans'].mean():.1f} | {group['minutes'].mean():.0f} | "
            f"{group['dice'].mean():.3f} ± {group['dice'].std():.3f} | {len(group)} |"
        )


def print_differences(table: pd.DataFrame) -> None:
    """Each arm of slices against whole scans drawn by foreground, seed by seed."""
    is_whole = (table["unit"] == "case") & (table["arm"] == RANDOM) & (table["labels"] > 0)
    whole = table[is_whole].set_index("seed")["dice"]
    print("\n| slices | arm | minus whole scans | better in | p |\n|---|---|---|---|---|")
    for (labels, arm), group in table[table["unit"] == "slice"].groupby(["labels", "arm"], sort=False):
        pairs = pd.concat([group.set_index("seed")["dice"], whole], axis=1, join="inner").to_numpy()
        if len(pairs) > 1 and labels > 0:
            gains = pairs[:, 0] - pairs[:, 1]
            p = stats.ttest_rel(*pairs.T).pvalue
            print(f"| {labels} | {arm} | {gains.mean():+.3f} | {(gains > 0).sum()} of {len(gains)} | {p:.3f} |")


if __name__ == "__main__":
    main()
