"""Time and peak memory of every query strategy on large pools, each in a process of its own.

    python benchmarks/strategies_scale.py --csv benchmarks/results/strategies_scale.csv

Prints a Markdown table for 10,000 cases with 320-dimensional embeddings and 100 picks, with the exponent p of
processor time ~ n^p (least squares in the logarithms over n = 1,000, 3,000, 10,000; ``--large`` adds 30,000), which a busy
machine changes little, unlike the seconds on the clock that the other columns give. Exits with 1 if a strategy needs more
than 60 s or 4 GB at 10,000 cases. Peak memory is that of the whole process, Python and libraries included.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import resource
import subprocess
import sys
import time
from pathlib import Path

SIZES = (1000, 3000, 10_000)
LARGE = 30_000
LIMIT_N, LIMIT_SECONDS, LIMIT_MIB = 10_000, 60.0, 4096.0
SHORTEST = 0.05  # seconds; below it the exponent would be noise


def synthetic_pool(n: int, width: int, classes: int = 4, groups: int = 25):
    """Groups of cases in embedding space, with all columns and arrays; nothing is labelled (the dearest case)."""
    import numpy as np
    import pandas as pd

    from nnunet_active.strategies import ScoredPool

    rng = np.random.default_rng(0)
    centres = rng.normal(size=(groups, width))
    embedding = (centres[rng.integers(groups, size=n)] + rng.normal(size=(n, width))).astype(np.float32)
    volume = rng.integers(0, 5000, size=(n, classes)).astype(np.float64)
    columns = ("mean_entropy", "foreground_entropy", "mean_margin", "mean_max_probability", "soft_foreground_entropy")
    columns += ("class_balanced_entropy", "density", "mutual_information", "kl_source")
    scores = pd.DataFrame({name: rng.random(n) for name in columns}, index=[f"case_{i:06d}" for i in range(n)])
    scores["foreground_voxels"] = volume[:, 1:].sum(axis=1)
    arrays = {
        "embedding": embedding,
        "class_volume": volume,
        "class_mean": embedding[:, None, :] * rng.random((n, classes, 1), dtype=np.float32),
    }
    return ScoredPool(scores, arrays, source_summary={"centroids": rng.normal(size=(8, width))}, rounds=5)


def measure_here(name: str, n: int, width: int, picks: int) -> dict:
    """One query in this process."""
    import numpy as np

    from nnunet_active.strategies import get_strategy

    strategy, pool = get_strategy(name), synthetic_pool(n, width)
    start, cpu_start = time.perf_counter(), time.process_time()
    selection = strategy.query(pool, picks, np.random.default_rng(0))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    assert len(set(selection.picks)) == picks
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    return {
        "strategy": name,
        "n": n,
        "width": width,
        "picks": picks,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_mib": peak,
    }


def measure(name: str, n: int, width: int, picks: int) -> dict:
    """One query in a fresh process."""
    arguments = [sys.executable, __file__, "--child", name, str(n), str(width), str(picks)]
    answer = subprocess.run(arguments, capture_output=True, text=True)
    if answer.returncode:
        raise SystemExit(f"{name} with n = {n} failed:\n{answer.stderr}")
    return json.loads(answer.stdout.splitlines()[-1])


def exponent(rows: list[dict]) -> float:
    """p of processor time ~ n^p; NaN where even the largest pool takes no time worth measuring."""
    rows = [row for row in rows if row["cpu_seconds"] >= SHORTEST]
    if len(rows) < 2:
        return math.nan
    x, y = ([math.log(row[key]) for row in rows] for key in ("n", "cpu_seconds"))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--csv", type=Path, help="write every measurement to this file")
    parser.add_argument("--large", action="store_true", help=f"add n = {LARGE}")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="pool sizes")
    parser.add_argument("--width", type=int, default=320, help="width of the embeddings")
    parser.add_argument("--picks", type=int, default=100)
    parser.add_argument("--strategies", nargs="+", help="only these")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        name, *numbers = args.child
        print(json.dumps(measure_here(name, *map(int, numbers))))
        return 0
    from nnunet_active.strategies import available_strategies

    sizes = [*args.sizes, *([LARGE] if args.large else [])]
    measured, failed = [], False
    print("| strategy | " + " | ".join(f"s at n = {n:,}" for n in sizes) + " | peak MiB at the largest | exponent |")
    print("|---" * (len(sizes) + 3) + "|")
    for name in args.strategies or available_strategies():
        rows = [measure(name, n, args.width, args.picks) for n in sizes]
        p = exponent(rows)
        times = " | ".join(f"{row['seconds']:.2f}" for row in rows)
        print(f"| {name} | {times} | {rows[-1]['peak_mib']:.0f} | {'-' if math.isnan(p) else f'{p:.2f}'} |", flush=True)
        failed |= any(
            row["n"] == LIMIT_N and (row["seconds"] > LIMIT_SECONDS or row["peak_mib"] > LIMIT_MIB) for row in rows
        )
        measured += [row | {"exponent": p} for row in rows]
    if args.csv:
        args.csv.parent.mkdir(parents=True, exist_ok=True)
        with args.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(measured[0]))
            writer.writeheader()
            writer.writerows(
                {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in row.items()}
                for row in measured
            )
    print(f"\nEvery strategy within {LIMIT_SECONDS:.0f} s and {LIMIT_MIB:.0f} MiB at n = {LIMIT_N:,}: {not failed}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
