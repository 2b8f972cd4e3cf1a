"""A look-up table: every case of a pool as the only label, random pairs too; then any first pick is judged without a training.

    python benchmarks/value_of_labels.py measure ROWS --cache CACHE --pools diseased cine glioma_back hippocampus
    python benchmarks/value_of_labels.py measure ROWS --cache CACHE --pools cine --labels 2 --sets 100
    python benchmarks/value_of_labels.py measure ROWS_OF_SLICES --cache CACHE --slices 3
    python benchmarks/value_of_labels.py describe --cache CACHE
    python benchmarks/value_of_labels.py judge ROWS --cache CACHE --csv benchmarks/results/value_of_labels.csv

``measure`` fine-tunes the source network of ``small_lab`` on one set of cases at a time and appends a row for each test case, so that a
stop loses one training at most; the same command goes on. With ``--slices`` so many slices of each scan are labelled, spread over what
the source network predicts; keep these rows in a file of their own. The mean over all cases is what a random first pick is worth.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path

import first_picks
import judged_picks
import numpy as np
import pandas as pd
import small_lab as lab
import torch
from appended_rows import AppendedRows
from mixing import spread_slices
from small_lab import Scan, Weights
from torch import nn
from workspace import test_data

POOLS = ("diseased", "cine", "glioma_back", "hippocampus")
ALPHAS = (0.75, 1.0)
STEPS, SOURCE_STEPS = 40, 400
TESTED, POOLED = 20, 60
HEAD = ["pool", "seed", "labels", "cases", "alpha", "test", "dice", "change"]


@dataclass
class Pool:
    """A source network, the scans to choose from, and for each of them those that its label is judged on."""

    name: str
    scans: list[Scan]
    tests: dict[str, list[Scan]]
    network: nn.Module
    source: Weights
    classes: int
    slices: int | None = None
    """Labelled slices of each scan; all if not given."""
    known: list[Scan] = field(default_factory=list)
    """What the source network was trained on."""


def one_a_patient(scans: list[Scan], rng: np.random.Generator) -> list[Scan]:
    """One scan of each patient, patients and scans at random."""
    found: dict[str, Scan] = {}
    for i in rng.permutation(len(scans)):
        found.setdefault(scans[i].patient, scans[i])
    return list(found.values())


def parted(name: str, target: list[Scan], rng: np.random.Generator) -> tuple[list[Scan], dict[str, list[Scan]]]:
    """Scans to choose from in random order, and the test scans of each; no patient is on both sides.

    A target of fewer than 60 scans is cut in halves, and each half is judged on the other one: all scans can be chosen.
    """
    if name == "diseased":
        parts = json.loads((test_data() / "splits" / "healthy_to_diseased.json").read_text())
        pool = [scan for scan in target if scan.name in set(parts["pool"])]
        pool = [pool[i] for i in rng.permutation(len(pool))]
        test = one_a_patient([scan for scan in target if scan.name in set(parts["test"])], rng)[:TESTED]
        return pool, {scan.name: test for scan in pool}
    single = one_a_patient(target, rng)
    half = len(single) // 2
    if len(single) < POOLED:
        sides = single[:half], single[half:]
        # The sides take turns, so that a table that was stopped is of both.
        pool = [scan for pair in zip_longest(*sides) for scan in pair if scan is not None]
        return pool, {scan.name: sides[1 - i] for i in (0, 1) for scan in sides[i]}
    pool, test = single[: min(half, POOLED)], single[-min(half, TESTED) :]
    return pool, {scan.name: test for scan in pool}


def prepare(name: str, cache: Path) -> Pool:
    """The pool of a pair of ``small_lab``; its source network is trained if the cache has none."""
    source, target = lab.pair_of(name, lab.raw_folder(), cache)
    classes = int(max(scan.label.max() for scan in source + target)) + 1
    network, weights = lab.source_weights(name, source, classes, cache, SOURCE_STEPS)
    scans, tests = parted(name, target, np.random.default_rng(0))
    return Pool(name, scans, tests, network, weights, classes, known=source)


def sets_of(pool: Pool, labels: int, most: int | None) -> list[tuple[Scan, ...]]:
    """All single scans, or ``most`` random sets of that many patients that are judged on the same scans."""
    if labels == 1:
        return [(scan,) for scan in pool.scans[:most]]
    rng, found = np.random.default_rng(labels), {}
    for _ in range(100 * (most or 100)):
        chosen = [pool.scans[i] for i in rng.choice(len(pool.scans), labels, replace=False)]
        same = all(pool.tests[scan.name] is pool.tests[chosen[0].name] for scan in chosen)
        if same and len({scan.patient for scan in chosen}) == labels and len(found) < (most or 100):
            found.setdefault(key_of(chosen), tuple(chosen))
    return list(found.values())


def key_of(chosen) -> str:
    """The names of a set in one cell."""
    return "+".join(sorted(scan.name for scan in chosen))


def dice_of(pool: Pool, weights: Weights, tests: list[Scan]) -> dict[str, float]:
    """Mean Dice over classes of each test scan."""
    pool.network.load_state_dict(weights)
    found = {}
    for scan in tests:
        predicted = lab.probabilities(pool.network, scan.image).argmax(1)
        found[scan.name] = float(np.nanmean(lab.dice_per_class(predicted, scan.label, pool.classes)))
    return found


def labelled(pool: Pool, chosen: tuple[Scan, ...], seed: int) -> lab.Samples:
    """What is trained on: the scans of a set, or slices of them."""
    if pool.slices is None:
        return lab.Samples([(scan, None) for scan in chosen])
    pool.network.load_state_dict(pool.source)
    rng = np.random.default_rng(seed)
    predicted = [lab.probabilities(pool.network, scan.image).argmax(1) for scan in chosen]
    return lab.Samples(
        [(scan, spread_slices(scan, map_, pool.slices, rng)) for scan, map_ in zip(chosen, predicted, strict=True)]
    )


def worth(pool: Pool, chosen: tuple[Scan, ...], seed: int, before: dict[str, float]) -> Iterator[list]:
    """Rows of one set: Dice of every test scan after a fine-tuning on the set, at each alpha, and the change from the source's."""
    samples = labelled(pool, chosen, seed)
    torch.manual_seed(seed)
    trained = lab.train(pool.network, pool.source, samples, STEPS * len(chosen))
    tests = pool.tests[chosen[0].name]
    for alpha in ALPHAS:
        for name, dice in dice_of(pool, lab.between(pool.source, trained, alpha), tests).items():
            first = [pool.name, seed, len(chosen), key_of(chosen)]
            yield [*first, alpha, name, f"{dice:.5f}", f"{dice - before[name]:.5f}"]


def measure(rows: Path, pools: list[Pool], labels: int, seed: int, most: int | None) -> None:
    """Append the rows of all sets that have none yet; the pools take turns."""
    there, before = AppendedRows(rows, HEAD, 4, 6), {}
    for pool in pools:
        every = {scan.name: scan for tests in pool.tests.values() for scan in tests}
        before[pool.name] = dice_of(pool, pool.source, list(every.values()))
        print(
            pool.name, len(pool.scans), "scans; source", f"{np.mean(list(before[pool.name].values())):.3f}", flush=True
        )
    for turn in zip_longest(*(sets_of(pool, labels, most) for pool in pools)):
        for pool, chosen in zip(pools, turn, strict=True):
            if chosen is None:
                continue
            expected = len(ALPHAS) * len(pool.tests[chosen[0].name])
            if not there.has(pool.name, seed, labels, key_of(chosen), rows=expected):
                there.add(worth(pool, chosen, seed, before[pool.name]))


def judge(rows: Path, cache: Path, file: Path) -> None:
    """Write the tables of ``judged_picks`` beside ``file`` and print what they say."""
    worths = judged_picks.worths(pd.read_csv(rows))
    cases = judged_picks.table_of_cases(worths, cache)
    names = list(first_picks.properties(*first_picks.both(cache, cases["pool"][0])))
    tables = {"cases": cases, "spread": judged_picks.spread(cases), "picks": judged_picks.judge(cases)}
    tables["properties"] = judged_picks.correlate(cases, names)
    sets = worths[worths["labels"] > 1]
    if len(sets):
        tables["sets"] = judged_picks.of_sets(sets, cases, cache)
        parts = tables["sets"].groupby("labels")
        found = {labels: judged_picks.correlate(part, list(part)[6:]) for labels, part in parts}
        tables["sets_properties"] = pd.concat(found, names=["labels"]).reset_index(level=0)
    for name, table in tables.items():
        table.round(5).to_csv(file.with_stem(f"{file.stem}_{name}"), index=False, lineterminator="\n")
        if name not in ("cases", "sets"):
            print(name, table.round(3).to_string(index=False), sep="\n", end="\n\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("measure")
    two = commands.add_parser("describe")
    three = commands.add_parser("judge")
    for command in (one, three):
        command.add_argument("rows", type=Path)
    for command in (one, two, three):
        command.add_argument("--cache", type=Path, required=True)
    for command in (one, two):
        command.add_argument("--pools", nargs="+", choices=POOLS, default=list(POOLS))
    three.add_argument("--csv", type=Path, required=True)
    one.add_argument("--labels", type=int, default=1)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--slices", type=int, help="label so many slices of each scan; all if not given")
    one.add_argument("--sets", type=int, help="the most sets of a pool; all single scans if not given")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.command == "measure":
        pools = [replace(prepare(name, args.cache), slices=args.slices) for name in args.pools]
        measure(args.rows, pools, args.labels, args.seed, args.sets)
    elif args.command == "describe":
        for name in args.pools:
            pool = prepare(name, args.cache)
            first_picks.save(args.cache / f"scored_{name}.npz", first_picks.scored(pool))
            known = first_picks.scored(replace(pool, scans=pool.known))
            first_picks.save(args.cache / f"scored_{name}_source.npz", known)
    else:
        judge(args.rows, args.cache, args.csv)


if __name__ == "__main__":
    main()
