"""Can the gain of the next label be told from a learning curve, by what the curves of other pairs did?

    python benchmarks/forecast_next_label.py --csv benchmarks/results/forecast_next_label.csv

The curves of ``benchmark_*.csv`` (but those from an untrained output layer): Dice d_k after k labels, d_0 that of the source network.
After k labels, the next gain ``d_{k+1} - d_k`` is predicted from the last gain ``g = d_k - d_{k-1}`` and the gain so far ``d_k - d_0``:

* ``nothing``: 0; ``again``: g; ``half``: g / 2
* ``mean``: the mean of the other pairs after k labels; ``share``: c g, ``line``: a + c g, by least squares on these
* ``power``: the gain so far grows like k ** b; b of the least absolute error on the other pairs

``error``: mean absolute difference on the pair that was left out; ``bias``: that with its sign. Files of a pair count alike.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

RESULTS = Path(__file__).parent / "results"
EXPONENTS = np.linspace(-1, 1, 41)


def steps() -> Iterator[dict]:
    """Every step of every curve."""
    for file in sorted(RESULTS.glob("benchmark_*.csv")):
        name, table = file.stem.removeprefix("benchmark_"), pd.read_csv(file, low_memory=False)
        if name.endswith("_head") or "arm" not in table or "class" not in table:
            continue
        table = table[table["class"] == "mean"]
        source = table[table["arm"] == "source"].groupby("fold")["dice"].mean()
        for (_, _, fold, _), rows in table[table["labels"] > 0].groupby(["arm", "recipe", "fold", "seed"]):
            dice = rows.groupby("labels")["dice"].mean()
            if list(dice.index) != list(range(1, len(dice) + 1)):
                continue
            d = [source[fold], *dice]
            for k in range(1, len(dice)):
                gains = {"last": d[k] - d[k - 1], "so_far": d[k] - d[0], "next": d[k + 1] - d[k]}
                yield {"pair": name.partition("_")[0], "file": name, "labels": k, **gains}


def weights(table: pd.DataFrame) -> np.ndarray:
    """Pairs count alike, and files within them."""
    files = table.groupby("pair")["file"].transform("nunique")
    return (1 / table.groupby(["pair", "file"])["next"].transform("size") / files).to_numpy()


def predictions(known: pd.DataFrame, here: pd.DataFrame, k: int) -> dict[str, np.ndarray]:
    """Of every step here, after k labels, from the same step of other pairs."""
    g, w, y = here["last"].to_numpy(), weights(known), known["next"].to_numpy()
    last, root = known["last"].to_numpy(), np.sqrt(w)
    c = (w * last * y).sum() / (w * last**2).sum()
    a, b = np.linalg.lstsq(np.c_[np.ones(len(last)), last] * root[:, None], y * root, rcond=None)[0]
    grown = [((k + 1) / k) ** e - 1 for e in EXPONENTS]
    best = grown[int(np.argmin([(w * abs(known["so_far"] * more - y)).sum() for more in grown]))]
    found = {"nothing": 0 * g, "again": g, "half": g / 2, "mean": 0 * g + np.average(y, weights=w)}
    return {**found, "share": c * g, "line": a + b * g, "power": here["so_far"].to_numpy() * best}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", type=Path)
    args, table, rows = parser.parse_args(), pd.DataFrame(steps()), []
    for (pair, k), here in table.groupby(["pair", "labels"]):
        known = table[(table["pair"] != pair) & (table["labels"] == k)]
        w = weights(here)
        for name, predicted in predictions(known, here, k).items():
            off = predicted - here["next"].to_numpy()
            errors = {"error": np.average(abs(off), weights=w), "bias": np.average(off, weights=w)}
            rows.append({"pair": pair, "labels": k, "prediction": name, "curves": len(here), **errors})
    result = pd.DataFrame(rows)
    by_pair = result.groupby(["prediction", "pair"])["error"].mean().unstack()
    print(by_pair.assign(mean=by_pair.mean(axis=1)).sort_values("mean").round(3).to_string())
    if args.csv:
        result.round(4).to_csv(args.csv, index=False)


if __name__ == "__main__":
    main()
