"""Which quantity, known without labels, knows best how good a prediction is?

    python benchmarks/forecast.py glioma cardiac -c 2d --csv benchmarks/results/forecast.csv

The case sets, source networks and the true error are those of ``asd_against_entropy.py``. Per case and class: ``s1``, the mean
pairwise Dice over members (``scoring.member_agreement``): the plain pass and one mirrored along each axis (``axes``), all mirrored
passes (``mirrors``), or passes with changed brightness and contrast (``intensity``, 2d alone); ``s2``, the soft Dice confidence of the
plain pass (``s2_mean``: of the mean of all mirrored passes); ``f0 = sqrt(s1 s2)``, which ranks a single class as ``f = s1 s2`` does;
``forecast``, what the command names (``(s1 s2) ** 1.25``, members of ``axes``). A case has the mean over its classes. Beside them ASD
and 1 - confidence.

For each: Spearman's rank correlation with the true error, its 95 % interval (bootstrap over cases), the area under the risk-coverage
curve (AURC: mean over k of the mean error of the k cases that the quantity trusts most; of a random order the mean error), and the
mean absolute difference between quantity and true Dice, where the quantity claims to be one. ``--cases`` keeps the rows of every case.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from itertools import chain, combinations
from pathlib import Path
from time import process_time

import numpy as np
import pandas as pd
from asd_against_entropy import (
    RESAMPLES,
    correlation,
    in_one_process,
    measures,
    parser_of_pairs,
    places_of,
    prepare_pair,
    truth_of,
)
from scipy.stats import rankdata

from nnunet_active.forecast.expected_dice import quality

KEPT = ["pair", "configuration", "case", "class", "dice", "volume", "s2", "s1_axes", "s1_mirrors", "s1_intensity"]
INTENSITY = ((0.8, 0.0), (1.25, 0.0), (1.0, -0.2), (1.0, 0.2))
"""Factor on a normalised image, and what is added to it."""


def arguments() -> argparse.Namespace:
    parser = parser_of_pairs(__doc__)
    parser.add_argument("--axes-only", action="store_true", help="no pass that is mirrored along several axes")
    parser.add_argument("--cost", type=int, metavar="N", help="only time the passes over the first N cases")
    parser.add_argument("--cases", type=Path)
    return parser.parse_args()


def look_at_pair(pair: str, args: argparse.Namespace, raw: Path, work: Path) -> pd.DataFrame:
    """One row per case and class, with the case's scalars repeated."""
    store, window = prepare_pair(pair, args.configuration, raw, work)
    kept = work / f"members_{pair}_{args.configuration}.csv"
    rows = rows_of(store.labelled_identifiers(), lambda case: look_at(window, store, case, args.axes_only), kept)
    return rows.assign(pair=pair, configuration=args.configuration)


def rows_of(cases: Iterable[str], look: Callable[[str], pd.DataFrame], kept: Path) -> pd.DataFrame:
    """The rows of every case. What was looked at stays in ``kept``: after a stop only the other cases are looked at."""
    tables, start = [pd.read_csv(kept)] if kept.is_file() else [], process_time()
    known = set(tables[0]["case"]) if tables else set()
    for case in cases:
        if case in known:
            continue
        tables.append(look(case))
        pd.concat(tables, ignore_index=True).to_csv(kept, index=False)
        print(f"{kept.stem} {case}: {process_time() - start:.0f} s of the processor so far", flush=True)
    return pd.concat(tables, ignore_index=True)


def look_at(window, store, case: str, axes_only: bool) -> pd.DataFrame:
    """All members' passes over one case, side by side."""
    from nnunet_active.scoring.ensemble import mean_logits
    from nnunet_active.scoring.member_agreement import Agreement, pairwise_dice
    from nnunet_active.scoring.statistics import ScoreAccumulator

    image, truth = store.load_image(case), truth_of(store, case)
    dimensions = range(window.dimensions)
    sizes = range(2 if axes_only else window.dimensions + 1)
    flips = [*chain.from_iterable(combinations(dimensions, n) for n in sizes)]
    changed = INTENSITY if window.dimensions == 2 else ()
    members = {"axes": [*range(1 + len(dimensions))]}
    if not axes_only:
        members["mirrors"] = [*range(len(flips))]
    if changed:
        members["intensity"] = [0, *range(len(flips), len(flips) + len(changed))]
        members["mirrors+intensity"] = [*range(len(flips) + len(changed))]
    agreement, plain, mean = Agreement(), None, None
    predicted = np.zeros(image.shape[1:], dtype=np.int16)
    with window._predicting():
        prepared = window.prepare(image, len(flips) + len(changed))
        streams = [window.stream(prepared, flip) for flip in flips]
        for factor, shift in changed:
            streams.append(window.stream(prepared._replace(image=prepared.image * factor + shift)))
        for slabs in zip(*streams, strict=True):
            logits, (_, first, row) = [slab.logits for slab in slabs], slabs[0]
            if plain is None:
                plain, mean = (ScoreAccumulator(len(logits[0]), shape=image.shape[1:]) for _ in range(2))
            agreement.add(logits)
            plain.update(logits[0], first, row)
            mean.update(mean_logits(logits[: len(flips)]), first, row)
            n, rows = logits[0].shape[1:3]
            predicted[first : first + n, row : row + rows] = logits[0].argmax(0).numpy()
    scores, shared = plain.result(1.0), agreement.shared()
    classes = np.arange(1, len(scores.arrays["class_volume"]))
    table = pd.DataFrame({"case": case, "class": classes, "s2": scores.arrays["class_soft_dice"][1:]})
    table["s2_mean"] = mean.result(1.0).arrays["class_soft_dice"][1:]
    for name, which in members.items():
        table[f"s1_{name}"] = pairwise_dice(shared[np.ix_(which, which)])
    table["volume"] = scores.arrays["class_volume"][1:]
    table["dice"] = [dice(predicted == c, truth == c) for c in classes]
    return table.assign(**scores.scalars, passes=len(streams))


def cost_of_pair(pair: str, args: argparse.Namespace, raw: Path, work: Path) -> pd.DataFrame:
    """Processor time of a case by one network: what a query computes, and what a forecast does."""
    store, window = prepare_pair(pair, args.configuration, raw, work)
    rows = []
    for case in store.labelled_identifiers()[: args.cost]:
        image, seconds = store.load_image(case), []
        for members in (False, True, False, True):  # the first time warms up
            start = process_time()
            window.score(image, 1.0, ensemble=members)
            seconds.append(process_time() - start)
        rows.append({"case": case, "scoring": seconds[2], "forecast": seconds[3]})
    table = pd.DataFrame(rows)
    at = {"pair": pair, "configuration": args.configuration, "cases": len(table), "passes": 1 + window.dimensions}
    return pd.DataFrame([{**at, "ratio": table["forecast"].sum() / table["scoring"].sum()}])


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """NaN where both are empty."""
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return 2 * np.count_nonzero(a & b) / total if total else np.nan


def quantities(table: pd.DataFrame) -> tuple[pd.Series, dict[str, pd.Series]]:
    """The true Dice of every case, and what is known of it without labels; high where a case is good."""
    rows = table.copy()
    found = {name: rows[name] for name in rows.columns if name.startswith(("s1_", "s2"))}
    for name in [name for name in found if name.startswith("s1_")]:
        found[f"f0_{name.removeprefix('s1_')}"] = np.sqrt(rows[name] * rows["s2"])
        found[f"f_{name.removeprefix('s1_')}"] = rows[name] * rows["s2"]
    found["forecast"] = quality(rows["s1_axes"], rows["s2"], rows["volume"], True)
    by_case = pd.DataFrame(found).groupby(rows["case"]).mean()
    scalars = rows.groupby("case").first()
    scalars["true_error"] = 1 - rows.groupby("case")["dice"].mean().fillna(1.0)
    kept = {name: by_case[name] for name in by_case}
    for name, difficult in measures(scalars).items():
        if name == "1 - confidence" or name.startswith("ASD class_balanced, support"):
            kept[name] = pd.Series(-difficult, scalars.index)
    return 1 - scalars["true_error"], kept


def aurc(trust: np.ndarray, error: np.ndarray) -> float:
    """Area under the risk-coverage curve; equal trust: the mean over their orders."""
    mean_of_equals = pd.Series(error).groupby(trust).transform("mean").to_numpy()
    best_first = mean_of_equals[np.argsort(-trust, kind="stable")]
    return float((np.cumsum(best_first) / np.arange(1, len(error) + 1)).mean())


def correlations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's rho of every row; 0 where one is constant."""
    a, b = (rankdata(values, axis=1) for values in (x, y))
    a, b = (ranks - ranks.mean(1, keepdims=True) for ranks in (a, b))
    norm = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return np.divide((a * b).sum(1), norm, out=np.zeros(len(x)), where=norm > 0)


def evaluate(table: pd.DataFrame) -> pd.DataFrame:
    """The figures of every quantity on one case set."""
    true, found = quantities(table)
    error, rows = 1 - true.to_numpy(), []
    draws = np.random.default_rng(0).integers(len(true), size=(RESAMPLES, len(true)))
    for name, values in found.items():
        trust = values.to_numpy()
        drawn = correlations(-trust[draws], error[draws])
        claims = name.startswith(("s", "f"))
        rows.append(
            {
                "pair": table["pair"].iat[0],
                "configuration": table["configuration"].iat[0],
                "cases": len(true),
                "quantity": name,
                "spearman": correlation(-trust, error),
                "low": np.percentile(drawn, 2.5),
                "high": np.percentile(drawn, 97.5),
                "aurc": aurc(trust, error),
                "aurc_best": aurc(-error, error),
                "aurc_random": error.mean(),
                "claimed_dice": trust.mean() if claims else np.nan,
                "true_dice": true.mean(),
                "absolute_difference": np.abs(trust - true.to_numpy()).mean() if claims else np.nan,
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    args = arguments()
    in_one_process()
    raw, work = places_of(args, "forecast")
    if args.cost:
        costs = pd.concat([cost_of_pair(pair, args, raw, work) for pair in args.pairs])
        print(costs.round(2).to_string(index=False))
        if args.csv:
            costs.round(3).to_csv(args.csv, mode="a", header=not args.csv.exists(), index=False)
        return
    for pair in args.pairs:
        cases = look_at_pair(pair, args, raw, work)
        table = evaluate(cases)
        print(table.drop(columns=["pair", "configuration", "cases"]).round(3).to_string(index=False), flush=True)
        for file, content in ((args.csv, table), (args.cases, cases.reindex(columns=KEPT))):
            if file:
                file.parent.mkdir(parents=True, exist_ok=True)
                content.round(4).to_csv(file, mode="a", header=not file.exists(), index=False)


if __name__ == "__main__":
    main()
