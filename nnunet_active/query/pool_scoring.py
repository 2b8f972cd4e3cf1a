"""Scores many cases, distributed over the processes of a training; each process holds a case and the next image or two."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from torch import Tensor

from nnunet_active.data.cases import CaseStore
from nnunet_active.nnunet.sent_ahead import send_ahead
from nnunet_active.nnunet.window import WantedScores, Window
from nnunet_active.query.score_cache import CacheEntry, ScoreCache
from nnunet_active.scoring.statistics import SCALARS, CaseScores
from nnunet_active.util.errors import BadCase
from nnunet_active.util.ranks import Ranks

Loaded = tuple[np.ndarray | Tensor, tuple[int, int], float]
_UNUSABLE = (BadCase, OSError, ValueError, RuntimeError)
ENTROPY_BINS = 64
"""Bins of the entropy histogram: fine enough to show a first peak, coarse enough that the peak is not noise (our choice)."""


@dataclass
class PoolScores:
    """Scores of several cases: a table, arrays with the first axis aligned to it, and the cases that could not be scored.

    Attributes:
        table: one row per case, sorted; the columns of :mod:`nnunet_active.scoring.statistics`, and others that were asked for.
        arrays: ``class_volume``, and others that were asked for.
        problems: one sentence for each case that could not be scored.
        forward_passes: number of cases that were scored now, not read from the cache (on all ranks together).
    """

    table: pd.DataFrame
    arrays: dict[str, np.ndarray]
    problems: dict[str, str]
    forward_passes: int = 0

    def without(self, case: str, problem: str) -> PoolScores:
        """The same with one case set aside."""
        here = self.table.index != case
        arrays = {name: values[here] for name, values in self.arrays.items()}
        return PoolScores(self.table[here], arrays, {**self.problems, case: problem}, self.forward_passes)


class LeftOut(Exception):
    """A case that cannot be scored; the text says why."""

    def __init__(self, case: str, error: Exception) -> None:
        super().__init__(_left_out(case, error))
        self.case = case


@contextmanager
def leaving_out(case: str) -> Iterator[None]:
    """Raise :class:`LeftOut` for what makes a case impossible to score."""
    try:
        yield
    except _UNUSABLE as error:
        raise LeftOut(case, error) from error


@dataclass(frozen=True)
class WhatToScore:
    """What to compute for every case besides the statistics of :mod:`nnunet_active.scoring.statistics`.

    Attributes:
        embedding: array ``embedding`` (n, d) float32.
        ensemble: column ``mutual_information`` of the ensemble's members, in nats. For a single network, the members are mirrored
            passes, at the cost of one more pass per axis.
        agreement: array ``class_agreement`` (n, C), the pairwise Dice of the same members, and ``class_soft_dice`` (n, C), the soft
            Dice confidence; the cache then also keeps the predicted classes (:mod:`nnunet_active.scoring.packed_prediction`).
        class_mean: array ``class_mean`` (n, C, d) float32, the embeddings of the predicted classes.
        entropy_histogram: array ``entropy_histogram`` (n, 64) int64: voxels by entropy, in equal bins from 0 to ln C.
        source: a network to compare with, at the cost of its own pass: column ``kl_source``, mean voxel KL(source || window) in nats.
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
    """Score cases with one forward pass each; the next image is read meanwhile. A case that cannot be scored is named and set aside.

    With a cache, only cases that this network has not scored yet need a pass, and each result is cached at once. The result does not
    depend on the cache's content: it has exactly the columns and arrays that were asked for.

    Args:
        window: the network or ensemble to score with.
        store: the preprocessed images.
        cases: cases to score.
        what: what to compute.
        ranks: distributes the cases over the processes of a distributed training; every rank gets all results.
        cache: scores that were computed before.
        description: text of the progress bar, which only a terminal shows.
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
    compared = None if same else source  # comparing a network with itself gives 0
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

    entries = dict(ranks.decide(known_now))  # only one rank reads: others might already see newer entries
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
    """One forward pass of one case, cached; for a case that cannot be scored, a sentence.

    Attributes:
        window, store, what: see :func:`score_cases`.
        compared: the cache's column name of the divergence, and the network to compare with.
        cache: gets every entry.
        digest: the window's digest, for the cache.
    """

    window: Window
    store: CaseStore
    what: WhatToScore
    compared: tuple[str, Window] | None = None
    cache: ScoreCache | None = None
    digest: str = ""

    @property
    def queues(self) -> bool:
        """See :attr:`Window.queues`."""
        return self.window.queues

    def load(self, case: str) -> Loaded | str:
        """Image (M, Z, Y, X) float32, on the network's GPU if it has one, state of its file, voxel volume in mm³; or why the image
        cannot be read.
        """
        try:
            state = self.store.image_state(case)
            image = send_ahead(self.store.load_image(case), self.window.device)
            return image, state, float(np.prod(self.store.spacing(case)))
        except _UNUSABLE as error:
            return _left_out(case, error)

    def begin(self, case: str, loaded: Loaded | str) -> Callable[[], CacheEntry | str]:
        """Start the forward pass."""
        if isinstance(loaded, str):
            return lambda: loaded
        (image, state, voxel), what = loaded, self.what
        source = self.compared[1] if self.compared else None
        bins, members = ENTROPY_BINS if what.entropy_histogram else 0, what.ensemble or what.agreement
        try:
            wanted = WantedScores(voxel, what.embedding, what.class_mean, bins, members, source)
            scores = self.window.begin_score(image, wanted)
        except _UNUSABLE as error:
            said = _left_out(case, error)
            return lambda: said
        return partial(self._finish, case, state, scores)

    def _finish(self, case: str, state: tuple[int, int], wait: Callable[[], CaseScores]) -> CacheEntry | str:
        """Wait for the network's scores and cache them."""
        try:
            scores = wait()
        except _UNUSABLE as error:
            return _left_out(case, error)
        kl_name = self.compared[0] if self.compared else "kl_source"
        scalars = {kl_name if name == "kl_source" else name: value for name, value in scores.scalars.items()}
        if self.cache is not None:
            self.cache.add(self.digest, case, state, scalars, {**scores.arrays, **scores.slices})
        return CacheEntry(scalars, scores.arrays)


def _left_out(case: str, error: Exception) -> str:
    if "out of memory" in str(error).lower():  # not due to the case; the next one would fail, too
        raise error
    return f"{case} could not be scored ({error}); it is left out of this query."


def _look_up(
    cache: ScoreCache, digest: str, store: CaseStore, case: str, scalars: Sequence[str], arrays: Sequence[str]
) -> CacheEntry | None:
    """The case's cache entry, if it has everything that is asked for."""
    try:
        entry = cache.get(digest, case, store.image_state(case), arrays)
    except (BadCase, OSError):
        return None
    whole = entry is not None and entry.scalars.keys() >= set(scalars) and entry.arrays.keys() >= set(arrays)
    return entry if whole else None
