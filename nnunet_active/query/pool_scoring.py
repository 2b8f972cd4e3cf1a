"""Scores of many cases, shared out over the processes at work; one case is held at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from nnunet_active.data.cases import CaseStore
from nnunet_active.nnunet.window import WantedScores, Window
from nnunet_active.query.score_cache import CacheEntry, ScoreCache
from nnunet_active.scoring.statistics import SCALARS, CaseScores
from nnunet_active.util.errors import BadCase
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
        agreement: array ``class_agreement`` (n, C), the pairwise Dice of the same members, and ``class_soft_dice`` (n, C), the soft
            Dice confidence; the cache then also keeps the predicted classes (:mod:`nnunet_active.scoring.packed_prediction`).
        class_mean: the embeddings of the predicted classes: array ``class_mean`` (n, C, d) float32.
        entropy_histogram: array ``entropy_histogram`` (n, 64) int64: voxels by entropy, in equal bins from 0 to ln C.
        source: also compare with this network: column ``kl_source``, mean voxel KL(source || window) in nats; its pass comes on top.
    """

    embedding: bool = True
    ensemble: bool = False
    agreement: bool = False
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
    cases = ranks.only(sorted(cases))
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
    array_names += ["class_agreement", "class_soft_dice"] if what.agreement else []

    def known_now() -> dict[str, CacheEntry]:
        if cache is None:
            return {}
        found = {case: _look_up(cache, digest, store, case, scalar_names, array_names) for case in cases}
        cache.used(digest)
        return {case: entry for case, entry in found.items() if entry is not None}

    entries = dict(ranks.decide(known_now))  # one rank looks: another might see what a third has just written
    todo = [case for case in cases if case not in entries]
    problems: dict[str, str] = {}
    work = ScoringWork(window, store, what, None if compared is None else (kl_name, compared), cache, digest)
    for case, outcome in ranks.each(work, todo, description).items():
        if isinstance(outcome, str):
            problems[case] = outcome
        else:
            entries[case] = outcome
    found = sorted(entries)
    rows = {case: {name: entries[case].scalars[name] for name in scalar_names} for case in found}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=scalar_names, dtype=np.float64)
    table = table.rename(columns={kl_name: "kl_source"})
    if source is not None and same:
        table["kl_source"] = 0.0
    arrays = {name: np.stack([entries[case].arrays[name] for case in found]) for name in array_names} if found else {}
    return PoolScores(table, arrays, problems, len(todo) - len(problems))


@dataclass(frozen=True)
class ScoringWork:
    """One forward pass of one case, kept in the cache; a sentence for a case that cannot be scored.

    Attributes:
        window, store, what: see :func:`score_cases`.
        compared: name of the column of the divergence in the cache, and the network to compare with.
        cache: where every entry is kept.
        digest: the window's, for the cache.
    """

    window: Window
    store: CaseStore
    what: WhatToScore
    compared: tuple[str, Window] | None = None
    cache: ScoreCache | None = None
    digest: str = ""

    def load(self, case: str) -> tuple[np.ndarray, tuple[int, int], float] | str:
        """Image (M, Z, Y, X) float32, state of its file, mm³ of a voxel; or why it cannot be read."""
        try:
            state = self.store.image_state(case)
            return self.store.load_image(case), state, float(np.prod(self.store.spacing(case)))
        except (BadCase, OSError, ValueError, RuntimeError) as error:
            return _left_out(case, error)

    def begin(
        self, case: str, loaded: tuple[np.ndarray, tuple[int, int], float] | str
    ) -> Callable[[], CacheEntry | str]:
        """Ask the network."""
        if isinstance(loaded, str):
            return lambda: loaded
        (image, state, voxel), what = loaded, self.what
        source = self.compared[1] if self.compared else None
        bins, members = ENTROPY_BINS if what.entropy_histogram else 0, what.ensemble or what.agreement
        try:
            wanted = WantedScores(voxel, what.embedding, what.class_mean, bins, members, source)
            scores = self.window.begin_score(image, wanted)
        except (BadCase, OSError, ValueError, RuntimeError) as error:
            said = _left_out(case, error)
            return lambda: said
        return partial(self._finish, case, state, scores)

    def _finish(self, case: str, state: tuple[int, int], wait: Callable[[], CaseScores]) -> CacheEntry | str:
        """What the network says of it."""
        try:
            scores = wait()
        except (BadCase, OSError, ValueError, RuntimeError) as error:
            return _left_out(case, error)
        kl_name = self.compared[0] if self.compared else "kl_source"
        scalars = {kl_name if name == "kl_source" else name: value for name, value in scores.scalars.items()}
        if self.cache is not None:
            self.cache.add(self.digest, case, state, scalars, {**scores.arrays, **scores.slices})
        return CacheEntry(scalars, scores.arrays)


def _left_out(case: str, error: Exception) -> str:
    if "out of memory" in str(error).lower():  # not the case's fault, and the next one would fail as well
        raise error
    return f"{case} could not be scored ({error}); it is left out of this query."


def _look_up(
    cache: ScoreCache, digest: str, store: CaseStore, case: str, scalars: Sequence[str], arrays: Sequence[str]
) -> CacheEntry | None:
    """An entry that has all that is asked for."""
    try:
        entry = cache.get(digest, case, store.image_state(case), arrays)
    except (BadCase, OSError):
        return None
    whole = entry is not None and entry.scalars.keys() >= set(scalars) and entry.arrays.keys() >= set(arrays)
    return entry if whole else None
