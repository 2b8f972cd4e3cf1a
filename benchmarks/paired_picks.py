"""Sets that strategies ask for, seed against seed: many cheap trainings on the pools of value_of_labels.py.

    python benchmarks/paired_picks.py measure ROWS --cache CACHE --arms foreground_random strata --units case slice
    python benchmarks/paired_picks.py measure ROWS --cache CACHE --arms foreground_random strata strata:easy --units late
    python benchmarks/paired_picks.py judge ROWS --against foreground_random

A seed is a random three quarters of a pool's patients, one scan each, and the order of the batches; every arm chooses from the same
scans and is trained in the same way (``STEPS`` steps). Unit ``case``: three whole scans; unit ``slice``: three slices of each of five
scans, at random within equal strata of what the source network predicts; unit ``late``: five whole scans, the last two asked for as the
network sees the pool that was trained on the first three (alpha 0.75). The arm ``strata:easy`` is ``strata`` without the difficulty
that counts there. ``measure`` appends a row for each run and alpha, and goes on after a stop; ``CACHE`` is that of
``value_of_labels.py``, after its ``describe``. ``judge`` compares every arm with ``--against`` by a paired t test.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import product
from pathlib import Path

import first_picks
import numpy as np
import pandas as pd
import small_lab as lab
import torch
from appended_rows import AppendedRows
from mixing import spread_slices
from scipy import stats
from value_of_labels import ALPHAS, POOLS, Pool, dice_of, key_of, prepare

from nnunet_active.strategies import get_strategy

STEPS, SHARE = 120, 0.75
SCANS = {"case": 3, "slice": 5, "late": 5}
EARLY, EASY = 3, ":easy"
OPPONENT = "foreground_random"
HEAD = ["pool", "seed", "unit", "arm", "cases", "alpha", "change"]


def offered(pool: Pool, seed: int) -> list[lab.Scan]:
    """One scan of each of some patients, all of which are judged on the same test scans."""
    rng = np.random.default_rng(seed)
    sides = list({id(tests): tests for tests in pool.tests.values()}.values())
    side = sides[seed % len(sides)]
    found: dict[str, lab.Scan] = {}
    for i in rng.permutation(len(pool.scans)):
        scan = pool.scans[i]
        if pool.tests[scan.name] is side:
            found.setdefault(scan.patient, scan)
    return list(found.values())[: round(SHARE * len(found))]


def asked(arm: str, scored, scans: list[lab.Scan], n: int, seed: int) -> list[lab.Scan]:
    """The scans that a strategy of the package asks for."""
    by_name = {scan.name: scan for scan in scans}
    picks = get_strategy(arm).query(first_picks.only(scored, set(by_name)), n, np.random.default_rng(seed)).picks
    return [by_name[name] for name in picks]


def asked_late(arm: str, pool: Pool, scored, scans: list[lab.Scan], seed: int) -> list[lab.Scan]:
    """``EARLY`` scans, then the others, as a strategy asks for them after three answers and a training on these."""
    name = arm.removesuffix(EASY)
    first = asked(name, scored, scans, EARLY, seed)
    torch.manual_seed(seed)
    trained = lab.train(pool.network, pool.source, lab.Samples([(scan, None) for scan in first]), STEPS)
    adapted = replace(pool, scans=scans, source=lab.between(pool.source, trained, ALPHAS[0]))
    found = first_picks.scored(adapted)
    found = found.moved_to_labelled(np.isin(found.cases, [scan.name for scan in first]))
    found = replace(found, answered=0 if arm.endswith(EASY) else EARLY)
    left = [scan for scan in scans if scan.name in found.cases]
    return first + asked(name, found, left, SCANS["late"] - EARLY, seed)


def run(
    pool: Pool,
    chosen: list[lab.Scan],
    unit: str,
    seed: int,
    predicted: dict[str, torch.Tensor],
    before: dict[str, float],
) -> dict[float, float]:
    """Mean change of Dice over the test scans after one training, by alpha."""
    tests, rng = pool.tests[chosen[0].name], np.random.default_rng(seed)
    labelled = [
        (scan, spread_slices(scan, predicted[scan.name], 3, rng) if unit == "slice" else None) for scan in chosen
    ]
    torch.manual_seed(seed)
    trained = lab.train(pool.network, pool.source, lab.Samples(labelled), STEPS)
    found = {}
    for alpha in ALPHAS:
        after = dice_of(pool, lab.between(pool.source, trained, alpha), tests)
        found[alpha] = float(np.mean([dice - before[name] for name, dice in after.items()]))
    return found


def measure(rows: Path, names: list[str], cache: Path, arms: list[str], units: list[str], seeds: range) -> None:
    """Append the rows of all runs that have none yet; the pools take turns."""
    there = AppendedRows(rows, HEAD, 4, 6)
    pools = {name: prepare(name, cache) for name in names}
    seen = {name: first_picks.load(cache / f"scored_{name}.npz") for name in names}
    predicted, before = {}, {}
    for name, pool in pools.items():
        pool.network.load_state_dict(pool.source)
        predicted[name] = {s.name: lab.probabilities(pool.network, s.image).argmax(1) for s in pool.scans}
        tests = {scan.name: scan for side in pool.tests.values() for scan in side}
        before[name] = dice_of(pool, pool.source, list(tests.values()))
    for seed in seeds:
        for name, pool in pools.items():
            scans = offered(pool, seed)
            for unit, arm in product(units, arms):
                if there.has(name, seed, unit, arm, rows=len(ALPHAS)):
                    continue
                if unit == "late":
                    chosen = asked_late(arm, pool, seen[name], scans, seed)
                else:
                    chosen = asked(arm, seen[name], scans, SCANS[unit], seed)
                found = run(pool, chosen, unit, seed, predicted[name], before[name])
                first = [name, seed, unit, arm, key_of(chosen)]
                there.add([*first, alpha, f"{change:.5f}"] for alpha, change in found.items())


def judge(rows: pd.DataFrame, against: str = OPPONENT) -> pd.DataFrame:
    """Every arm minus one of them: mean difference, its 95 % interval, wins and the p of a paired t test, by pool, unit and alpha.

    The row ``all`` is the mean over pools of seeds that all pools have.
    """
    table = rows.pivot_table(index=["unit", "alpha", "pool", "seed"], columns="arm", values="change")
    gains = table.drop(columns=against).sub(table[against], axis=0).stack().dropna().rename("gain").reset_index()
    everywhere = gains.groupby(["unit", "alpha", "seed", "arm"])["gain"].agg(["mean", "size"])
    everywhere = everywhere[everywhere["size"] == rows["pool"].nunique()]["mean"].rename("gain").reset_index()
    found = []
    for key, group in pd.concat([gains, everywhere.assign(pool="all")]).groupby(["unit", "alpha", "arm", "pool"]):
        x = group["gain"].to_numpy()
        half = stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)) if len(x) > 1 else np.nan
        row = dict(zip(("unit", "alpha", "arm", "pool"), key, strict=True))
        row |= {
            "runs": len(x),
            "gain": x.mean(),
            "low": x.mean() - half,
            "high": x.mean() + half,
            "wins": (x > 0).mean(),
        }
        found.append(row | {"p": stats.ttest_1samp(x, 0).pvalue if len(x) > 1 else np.nan})
    return pd.DataFrame(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one, two = commands.add_parser("measure"), commands.add_parser("judge")
    for command in (one, two):
        command.add_argument("rows", type=Path)
    one.add_argument("--cache", type=Path, required=True)
    one.add_argument("--pools", nargs="+", choices=POOLS, default=list(POOLS))
    one.add_argument("--arms", nargs="+", default=[OPPONENT, "strata"])
    one.add_argument("--units", nargs="+", choices=list(SCANS), default=["case", "slice"])
    one.add_argument("--seeds", type=int, default=30)
    two.add_argument("--against", default=OPPONENT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.command == "measure":
        measure(args.rows, args.pools, args.cache, args.arms, args.units, range(args.seeds))
    else:
        print(judge(pd.read_csv(args.rows), args.against).round(4).to_string(index=False))


if __name__ == "__main__":
    main()
