"""With one label no case can judge. Does the network that agrees best with the mean of all say how far to leave the source?

    python benchmarks/one_label.py measure CACHE --draws 4 --csv results/one_label.csv
    python benchmarks/one_label.py judge results/one_label.csv

``measure`` fine-tunes the source network of ``small_lab`` on random sets of scans (``--labels``), as ``value_of_labels`` does. A row
per network and alpha: Dice of the test scans, and ``agreement``: on up to 12 unlabelled scans of the pool, the mean Dice (over scans
and classes; 1 where both are empty) between the prediction at alpha and that of the mean probabilities over all alpha. ``judge``
takes the alpha with the highest agreement of each network (after EnsV, NeurIPS 2024) and compares it with fixed ones.
"""

from __future__ import annotations

import argparse
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pandas as pd
import small_lab as lab
import torch
import value_of_labels
from small_lab import Scan

from nnunet_active.training.guarded_choice import FLOOR, FLOOR_OF_MANY

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
UNLABELLED = 12
WORSE = 0.005
NETWORK = ["pair", "labels", "cases"]
WAYS = {
    **{f"{alpha:g}": (alpha,) for alpha in ALPHAS[1:]},
    "agreement": ALPHAS,
    "agreement of the floors": (FLOOR, FLOOR_OF_MANY),
}
"""The alphas among which the agreement decides; one alone is fixed."""


def agreements(probabilities: list[torch.Tensor]) -> list[float]:
    """Mean Dice over foreground classes of each prediction with that of the mean.

    Args:
        probabilities: (Z, classes, H, W) of one scan, by alpha.
    """
    classes = probabilities[0].shape[1]
    mean = torch.stack(probabilities).mean(0).argmax(1)
    found = [lab.dice_per_class(one.argmax(1), mean, classes) for one in probabilities]
    return [float(np.mean(np.nan_to_num(dice, nan=1.0))) for dice in found]


def measure(pool: value_of_labels.Pool, chosen: tuple[Scan, ...]) -> list[dict]:
    """Rows of one network."""
    torch.manual_seed(0)
    samples = lab.Samples([(scan, None) for scan in chosen])
    trained = lab.train(pool.network, pool.source, samples, value_of_labels.STEPS * len(chosen))
    patients = {scan.patient for scan in chosen}
    tests = pool.tests[chosen[0].name]
    tested = {scan.name for scan in tests}
    unlabelled = [scan for scan in pool.scans if scan.patient not in patients and scan.name not in tested][:UNLABELLED]
    found: dict[float, list[torch.Tensor]] = {}
    dice = {}
    for alpha in ALPHAS:
        weights = lab.between(pool.source, trained, alpha)
        dice[alpha] = np.mean(list(value_of_labels.dice_of(pool, weights, tests).values()))
        found[alpha] = [lab.probabilities(pool.network, scan.image) for scan in unlabelled]
    agree = np.mean([agreements(list(of_scan)) for of_scan in zip(*found.values(), strict=True)], axis=0)
    at = {"pair": pool.name, "labels": len(chosen), "cases": value_of_labels.key_of(chosen)}
    return [{**at, "alpha": a, "agreement": g, "dice": dice[a]} for a, g in zip(ALPHAS, agree, strict=True)]


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Per number of labels, pair (and all of them) and way: mean and worst change against the source, networks that lose more."""
    dice = rows.pivot_table(index=NETWORK, columns="alpha", values="dice")
    agree = rows.pivot_table(index=NETWORK, columns="alpha", values="agreement")
    changes = {}
    for way, alphas in WAYS.items():
        taken = agree[list(alphas)].idxmax(axis=1)
        found = pd.Series([dice.loc[key, alpha] for key, alpha in taken.items()], index=taken.index)
        changes[way] = pd.DataFrame({"change": found - dice[0.0], "alpha": taken})
    networks = pd.concat(changes, names=["way"]).reset_index()
    networks = pd.concat([networks, networks.assign(pair="all")])
    grouped = networks.groupby(["labels", "pair", "way"], sort=False)
    found = grouped["change"].agg(["size", "mean", "min"])
    found["worse"] = grouped["change"].agg(lambda change: int((change < -WORSE).sum()))
    found["alpha"] = grouped["alpha"].mean()
    return found.rename(columns={"size": "networks", "min": "worst"}).reset_index()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("measure")
    one.add_argument("cache", type=Path)
    one.add_argument("--pairs", nargs="+", default=list(lab.PAIRS), choices=lab.PAIRS)
    one.add_argument("--draws", type=int, default=4)
    one.add_argument("--labels", type=int, default=1)
    one.add_argument("--csv", type=Path, required=True)
    commands.add_parser("judge").add_argument("csv", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.command == "judge":
        print(judge(pd.read_csv(args.csv)).round(4).to_string(index=False))
        return
    pools = [value_of_labels.prepare(name, args.cache) for name in args.pairs]
    before = pd.read_csv(args.csv) if args.csv.is_file() else pd.DataFrame(columns=NETWORK)
    done = {tuple(key) for key in before[NETWORK].itertuples(index=False)}
    for turn in zip_longest(*(value_of_labels.sets_of(pool, args.labels, args.draws) for pool in pools)):
        for pool, chosen in zip(pools, turn, strict=True):
            if chosen is None or (pool.name, args.labels, value_of_labels.key_of(chosen)) in done:
                continue
            rows = pd.DataFrame(measure(pool, chosen))
            rows.to_csv(
                args.csv, mode="a", header=not args.csv.exists(), index=False, float_format="%.5f", lineterminator="\n"
            )
            print(rows.round(4).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
