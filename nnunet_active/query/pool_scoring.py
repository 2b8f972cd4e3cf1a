"""Scores and densities of many cases, shared out over the processes of a distributed training; one case is held at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from nnunet_active.data.cases import CaseStore
from nnunet_active.nnunet.inference import Window
from nnunet_active.query.score_cache import CacheEntry, ScoreCache
from nnunet_active.scoring import density
from nnunet_active.scoring.statistics import SCALARS
from nnunet_active.util.atomic import atomic_file
from nnunet_active.util.errors import BadCase, EmptyPool, MissingInput
from nnunet_active.util.log import Log, silent
from nnunet_active.util.progress import bar_is_shown
from nnunet_active.util.ranks import Ranks

ENTROPY_BINS = 64
"""Bins of the entropy histogram: fine enough for a first peak, coarse enough for it not to be noise (our choice)."""


@dataclass
class PoolScores:
    """Scores of several cases: a table, arrays with the first axis aligned to it, and the cases that could not be scored.

    Attributes:
        table: index: cases, sorted; the columns of :mod:`nnunet_active.scoring.statistics`, and what else was asked for.
        arrays: ``class_volume``, and what else was asked for.
        problems: case -> sentence.
        forward_passes: how many of the cases were not known from before (on all ranks together).
    """

    table: pd.DataFrame
    arrays: dict[str, np.ndarray]
    problems: dict[str, str]
    forward_passes: int = 0


@dataclass(frozen=True)
class WhatToScore:
    """What is wanted of every case beside the statistics of :mod:`nnunet_active.scoring.statistics`.

    Attributes:
        embedding: array ``embedding`` (n, d) float32.
        ensemble: the mutual information of the ensemble's members (of one network: of mirrored passes, at the cost of one more pass
            per axis): column ``mutual_information``, in nats.
        class_mean: the embeddings of the predicted classes: array ``class_mean`` (n, C, d) float32.
        entropy_histogram: array ``entropy_histogram`` (n, 64) int64: voxels by entropy, in equal bins from 0 to ln C.
        source: also compare with this network: column ``kl_source``, mean voxel KL(source || window) in nats; its pass comes on top.
    """

    embedding: bool = True
    ensemble: bool = False
    class_mean: bool = False
    entropy_histogram: bool = False
    source: Window | None = None


def score_cases(
    window: Window,
    store: CaseStore,
    cases: Sequence[str],
    what: WhatToScore = WhatToScore(),
    ranks: Ranks | None = None,
    cache: ScoreCache | None = None,
    description: str = "Scoring cases",
) -> PoolScores:
    """One forward pass per case; one case is held at a time. A case that cannot be scored is named and set aside.

    With a cache, only cases that this network has not scored yet are passed through it, and each is kept as soon as it is done. The
    answer does not depend on what the cache holds: it has exactly the columns and arrays that were asked for.

    Args:
        window: the network, or the ensemble, to score with.
        store: where the preprocessed images are.
        cases: whom to score.
        what: what to find out.
        ranks: shares the cases out over the processes of a distributed training; every rank gets all results.
        cache: scores that were computed before.
        description: what the progress bar says; a terminal shows one, a file of messages does not.
    """
    ranks = ranks or Ranks()
    cases = sorted(cases)
    digest = ranks.decide(lambda: window.digest) if cache is not None else ""
    same = False
    kl_name, source = "kl_source", what.source
    if source is not None and cache is not None:
        source_digest = ranks.decide(lambda: source.digest)
        same, kl_name = source_digest == digest, f"kl_source@{source_digest}"
    elif source is window:
        same = True
    compared = None if same else source  # a network does not differ from itself
    scalar_names = [*SCALARS, *(["mutual_information"] if what.ensemble else []), *([kl_name] if compared else [])]
    array_names = ["class_volume"]
    array_names += [name for name, on in (("embedding", what.embedding), ("class_mean", what.class_mean)) if on]
    array_names += ["entropy_histogram"] if what.entropy_histogram else []

    def known_now() -> dict[str, CacheEntry]:
        if cache is None:
            return {}
        found = {case: _look_up(cache, digest, store, case, scalar_names, array_names) for case in cases}
        cache.used(digest)
        return {case: entry for case, entry in found.items() if entry is not None}

    entries = dict(ranks.decide(known_now))  # one rank looks: another might see what a third has just written
    todo = [case for case in cases if case not in entries]
    fresh: dict[str, CacheEntry] = {}
    problems: dict[str, str] = {}
    mine = ranks.mine(todo)
    for case in tqdm(mine, desc=description, disable=not bar_is_shown(ranks.rank == 0 and len(mine) > 0)):
        try:
            state = store.image_state(case)
            scores = window.score(
                store.load_image(case),
                float(np.prod(store.spacing(case))),
                what.embedding,
                what.class_mean,
                ENTROPY_BINS if what.entropy_histogram else 0,
                what.ensemble,
                compared,
            )
        except (BadCase, OSError, ValueError, RuntimeError) as error:
            if "out of memory" in str(error).lower():  # not the case's fault, and the next one would fail as well
                raise
            problems[case] = f"{case} could not be scored ({error}); it is left out of this query."
            continue
        scalars = {kl_name if name == "kl_source" else name: value for name, value in scores.scalars.items()}
        fresh[case] = CacheEntry(scalars, scores.arrays)
        if cache is not None:
            cache.add(digest, case, state, scalars, {**scores.arrays, **scores.slices})
    for other_fresh, other_problems in ranks.gather((fresh, problems)):
        entries.update(other_fresh)
        problems.update(other_problems)
    found = sorted(entries)
    rows = {case: {name: entries[case].scalars[name] for name in scalar_names} for case in found}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=scalar_names, dtype=np.float64)
    table = table.rename(columns={kl_name: "kl_source"})
    if source is not None and same:
        table["kl_source"] = 0.0
    arrays = {name: np.stack([entries[case].arrays[name] for case in found]) for name in array_names} if found else {}
    return PoolScores(table, arrays, problems, len(todo) - len(problems))


def _look_up(
    cache: ScoreCache, digest: str, store: CaseStore, case: str, scalars: Sequence[str], arrays: Sequence[str]
) -> CacheEntry | None:
    """An entry that has all that is asked for."""
    try:
        entry = cache.get(digest, case, store.image_state(case))
    except (BadCase, OSError):
        return None
    whole = entry is not None and entry.scalars.keys() >= set(scalars) and entry.arrays.keys() >= set(arrays)
    return entry if whole else None


def density_of_cases(
    store: CaseStore, cases: Sequence[str], cache: Path, ranks: Ranks | None = None, log: Log = silent
) -> pd.Series:
    """Representativeness rho (mmActS E3) of every case among ``cases``; an image is read again only if its file has changed.

    Args:
        store: where the preprocessed images are.
        cases: the whole target training pool, labelled and unlabelled.
        cache: ``.npz`` file of the images' signatures; written in one step, so that it is whole or absent.
        ranks: shares the images out.
        log: where to tell the radius and the neighbour histogram.
    """
    ranks = ranks or Ranks()
    cases = sorted(cases)
    known = ranks.decide(lambda: _Signatures.read(cache))
    states = {}
    for case in tuple(cases):
        try:
            states[case] = store.image_state(case)
        except (MissingInput, OSError) as error:  # gone, or no file any more
            log(f"WARNING: {error} It is left out of the density.")
            cases.remove(case)
    changed = [case for case in cases if known.seen.get(case, ((), ""))[0] != states[case]]
    fresh: dict[str, tuple[str, np.ndarray | None] | str] = {}
    mine = ranks.mine(changed)
    for case in tqdm(mine, desc="Density of the pool", disable=not bar_is_shown(ranks.rank == 0 and len(mine) > 0)):
        try:
            # a copy that moved to another folder has a new time and the old voxels
            digest = store.image_fingerprint(case)
            fresh[case] = digest, None if digest in known.by_digest else density.case_signature(store.load_image(case))
        except BadCase as error:
            fresh[case] = str(error)
    added = False
    for part in ranks.gather(fresh):
        for case, found in part.items():
            if isinstance(found, str):
                log(f"WARNING: {found} It is left out of the density.")
                cases.remove(case)
                continue
            digest, signature = found
            known.seen[case] = states[case], digest
            if signature is not None:
                known.by_digest[digest] = signature
                added = True
    if not cases:
        raise EmptyPool("No image of the pool can be read.")
    if changed and ranks.rank == 0:
        known.write(cache)
    distances = density.pairwise_distances(np.stack([known.by_digest[known.seen[case][1]] for case in cases]))
    radius = density.default_radius(distances)
    rho = density.neighbour_density(distances, radius)
    counts = ", ".join(f"{n}: {c}" for n, c in density.neighbour_histogram(distances, radius).items())
    if added:
        log(
            f"Density of {len(cases)} cases, radius {radius:.4g} (0.1 quantile of the distances); neighbours: cases {{{counts}}}"
        )
    return pd.Series(rho, index=cases, name="density")


@dataclass
class _Signatures:
    """The images' signatures by their voxels' digest, and for each case the state of its file and the digest it had then."""

    by_digest: dict[str, np.ndarray]
    seen: dict[str, tuple[tuple[int, int], str]]

    @classmethod
    def read(cls, file: Path) -> _Signatures:
        known = cls({}, {})
        if not file.is_file():
            return known
        try:
            with np.load(file) as content:
                by_digest = dict(zip(content["digests"].tolist(), content["signatures"], strict=True))
                seen = {}
                if "cases" in content:  # files of earlier versions have none
                    states = map(tuple, content["states"].tolist())
                    entries = zip(content["cases"].tolist(), states, content["case_digests"].tolist(), strict=True)
                    seen = {case: (state, digest) for case, state, digest in entries if digest in by_digest}
            lengths = {signature.shape for signature in by_digest.values()}
            if len(lengths) == 1 and all(np.isfinite(signature).all() for signature in by_digest.values()):
                known.by_digest, known.seen = by_digest, seen
        except Exception:  # damaged: all of it is made again
            return known
        return known

    def write(self, file: Path) -> None:
        with atomic_file(file) as temporary, temporary.open("wb") as stream:
            np.savez(
                stream,
                digests=np.array(list(self.by_digest), dtype=str),
                signatures=np.stack(list(self.by_digest.values())),
                cases=np.array(list(self.seen), dtype=str),
                states=np.array([state for state, _ in self.seen.values()], dtype=np.int64),
                case_digests=np.array([digest for _, digest in self.seen.values()], dtype=str),
            )
