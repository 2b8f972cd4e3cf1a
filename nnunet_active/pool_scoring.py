"""Scores and densities of many cases, shared out over the processes of a distributed training; one case is held at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from nnunet_active.atomic import atomic_file
from nnunet_active.cases import CaseStore
from nnunet_active.errors import BadCase
from nnunet_active.inference import SlidingWindow
from nnunet_active.ranks import Ranks
from nnunet_active.scoring import density

Log = Callable[[str], None]


@dataclass
class PoolScores:
    """Scores of several cases: a table, arrays with the first axis aligned to it, and the cases that could not be scored."""

    table: pd.DataFrame
    arrays: dict[str, np.ndarray]
    problems: dict[str, str]


def score_cases(
    window: SlidingWindow,
    store: CaseStore,
    cases: Sequence[str],
    ranks: Ranks | None = None,
    embedding: bool = True,
    progress: bool = True,
    ensemble: bool = False,
) -> PoolScores:
    """One forward pass per case; one case is held at a time. A case that cannot be scored is named and set aside.

    Args:
        window: the network to score with.
        store: where the preprocessed images are.
        cases: whom to score.
        ranks: shares the cases out over the processes of a distributed training; every rank gets all results.
        embedding: also take embeddings.
        progress: show a bar (on rank 0).
        ensemble: also take the mutual information of mirrored passes, at the cost of one more pass per axis.
    """
    ranks = ranks or Ranks()
    rows: dict[str, dict[str, float]] = {}
    arrays: dict[str, dict[str, np.ndarray]] = {}
    problems: dict[str, str] = {}
    mine = ranks.mine(sorted(cases))
    for case in tqdm(mine, desc="Scoring cases", disable=not (progress and ranks.rank == 0 and len(mine))):
        try:
            image = store.load_image(case)
            scores = window.score(image, float(np.prod(store.spacing(case))), embedding)
            if ensemble:
                scores.scalars["mutual_information"] = window.mutual_information(image)
        except (BadCase, OSError, ValueError, RuntimeError) as error:
            if "out of memory" in str(error).lower():  # not the case's fault, and the next one would fail as well
                raise
            problems[case] = f"{case} could not be scored ({error}); it is left out of this query."
            continue
        rows[case], arrays[case] = scores.scalars, scores.arrays
    for other_rows, other_arrays, other_problems in ranks.gather((rows, arrays, problems)):
        rows.update(other_rows)
        arrays.update(other_arrays)
        problems.update(other_problems)
    table = pd.DataFrame.from_dict({case: rows[case] for case in sorted(rows)}, orient="index", dtype=np.float64)
    names = next(iter(arrays.values()), {})
    return PoolScores(table, {name: np.stack([arrays[case][name] for case in table.index]) for name in names}, problems)


def density_of_cases(
    store: CaseStore, cases: Sequence[str], cache: Path, ranks: Ranks | None = None, log: Log = lambda text: None
) -> pd.Series:
    """Representativeness rho (mmActS E3) of every case among ``cases``; computed once and kept by the images' digests.

    Args:
        store: where the preprocessed images are.
        cases: the whole target training pool, labelled and unlabelled.
        cache: ``.npz`` file of the images' signatures; written in one step, so that it is whole or absent.
        ranks: shares the images out.
        log: where to tell the radius and the neighbour histogram.
    """
    ranks = ranks or Ranks()
    cases = sorted(cases)
    digests = {case: store.image_fingerprint(case) for case in cases}
    known: dict[str, np.ndarray] = {}
    if cache.is_file():
        with np.load(cache) as content:
            known = {
                str(digest): signature
                for digest, signature in zip(content["digests"], content["signatures"], strict=True)
            }
    missing = [case for case in cases if digests[case] not in known]
    mine = ranks.mine(missing)
    fresh = {
        digests[case]: density.case_signature(store.load_image(case))
        for case in tqdm(mine, desc="Density of the pool", disable=ranks.rank > 0 or not mine)
    }
    for part in ranks.gather(fresh):
        known.update(part)
    if missing and ranks.rank == 0:
        with atomic_file(cache) as temporary, temporary.open("wb") as file:
            np.savez(file, digests=np.array(list(known)), signatures=np.stack(list(known.values())))
    distances = density.pairwise_distances(np.stack([known[digests[case]] for case in cases]))
    radius = density.default_radius(distances)
    rho = density.neighbour_density(distances, radius)
    counts = ", ".join(f"{n}: {c}" for n, c in density.neighbour_histogram(distances, radius).items())
    if missing:
        log(
            f"Density of {len(cases)} cases, radius {radius:.4g} (0.1 quantile of the distances); neighbours: cases {{{counts}}}"
        )
    return pd.Series(rho, index=cases, name="density")
