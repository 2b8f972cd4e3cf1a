"""How tight is the certificate? By how much an adapted network's mean IoU can differ from its source's, and by how much it does.

    python benchmarks/certificate.py measure NAME BENCHMARK_FOLDER ... --csv results/certificate.csv
    python benchmarks/certificate.py judge results/certificate.csv

The networks and their test cases are those of ``guard.py``. A row per network, alpha and case, means over classes on the voxels with a
known label: IoU of the source (``iou_source``) and of the network at alpha (``iou``) with the label, 1 where both are empty, and the
Jaccard distance of the two predictions (``distance``). In every row, |iou - iou_source| <= distance.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import guard
import numpy as np
import pandas as pd

from nnunet_active.scoring.jaccard import jaccard_distance

ALPHAS = (0.25, 0.75)
NETWORK = ["pair", "alpha", "run"]


def measure(name: str, root: Path, raw: Path) -> pd.DataFrame:
    """Rows of every network of one benchmark."""
    from nnunet_active.data.dataset_json import class_masks

    rows, source = [], {}
    for at, test, label, predicted, _ in guard.predictions(name, root, raw, (0.0, *ALPHAS)):
        labels, known = test.dataset_json["labels"], label >= 0
        here, truth = ([*class_masks(one[known], labels).values()] for one in (predicted, label))
        overlap = 1 - mean_distance(here, truth)
        if at["alpha"] == 0:
            source[at["case"]] = here, overlap
            continue
        before, overlap_before = source[at["case"]]
        rows.append({**at, "iou_source": overlap_before, "iou": overlap, "distance": mean_distance(here, before)})
    return pd.DataFrame(rows)


def mean_distance(some: list[np.ndarray], others: list[np.ndarray]) -> float:
    """Mean Jaccard distance over classes."""
    return float(np.mean([jaccard_distance(one, other) for one, other in zip(some, others, strict=True)]))


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Per pair and alpha: ``bound`` (mean over networks), mean and largest |difference| of the mean IoU, and its share of the bound."""
    networks = rows.groupby(NETWORK, sort=False)[["iou_source", "iou", "distance"]].mean()
    networks["difference"] = (networks["iou"] - networks["iou_source"]).abs()
    networks["share"] = networks["difference"] / networks["distance"]
    grouped = networks.groupby(NETWORK[:2], sort=False)
    found = grouped.agg(
        networks=("distance", "size"),
        bound=("distance", "mean"),
        difference=("difference", "mean"),
        largest=("difference", "max"),
        largest_share=("share", "max"),
    )
    return found.assign(share=found["difference"] / found["bound"]).reset_index()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    guard.add_measure(commands)
    commands.add_parser("judge").add_argument("csv", type=Path)
    args = parser.parse_args()
    if args.command == "judge":
        print(judge(pd.read_csv(args.csv, dtype={"case": str, "run": str})).round(3).to_string(index=False))
        return
    guard.add_rows(args.csv, [measure(args.name, folder, args.raw) for folder in args.folders])


if __name__ == "__main__":
    main()
