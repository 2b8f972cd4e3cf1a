"""What a query strategy is, what it returns, and the checks that every strategy shares.

A strategy sees a table of scores and some arrays, never a network, a folder or a label. To write one, subclass
:class:`ScoreStrategy` (one number per case, the highest are picked) or :class:`QueryStrategy` (picks that depend on
one another); see ``docs/how-to-add-a-strategy.md``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from nnunet_active.strategies.patient_rule import scan_at_random, whose_turn
from nnunet_active.strategies.pool import ScoredPool, check_pool
from nnunet_active.util.errors import ActiveError, EmptyPool

if TYPE_CHECKING:
    import pandas as pd

NEEDS = frozenset(
    {
        "predictions",
        "embedding",
        "density",
        "source_summary",
        "ensemble",
        "class_mean",
        "entropy_histogram",
        "source_embedding",
        "prediction_gap",
    }
)
"""The words allowed in ``needs`` and ``uses``; ``docs/how-to-add-a-strategy.md`` says what each provides."""

MAX_UTILITY_BYTES = 1 << 30
"""If all utilities need more bytes than this, those of the later greedy steps are dropped (the picks stay the same)."""

TIE = 1e-12
"""Relative difference of two utilities below which the case identifier decides."""


@dataclass(frozen=True)
class Selection:
    """A strategy's answer.

    Attributes:
        picks: the chosen cases, the first choice first.
        utilities: one row per greedy step, one column per candidate (float64); NaN for a case already picked and for a case whose
            patient has another scan as the candidate, finite everywhere else. Rows stop early only if they would not fit into
            ``MAX_UTILITY_BYTES`` (a note says so).
        components: index: candidates; the named factors of the utility. ``probability``: for a pick, the probability of its draw at
            its step, given the earlier picks, which scan of each patient was the candidate, and any clusters; for any other case,
            its probability at the first step. Unknown where a patient gives a further scan.
        notes: sentences for the user: fall-backs taken, values that were missing.
    """

    picks: tuple[str, ...]
    utilities: pd.DataFrame
    components: pd.DataFrame
    notes: tuple[str, ...] = ()


class Steps:
    """Records greedy steps and turns them into a :class:`Selection`.

    >>> import pandas as pd
    >>> pool = ScoredPool(pd.DataFrame({"mean_entropy": [0.1, 0.3]}, index=["a", "b"]))
    >>> steps = Steps(pool, 1)
    >>> int(steps.pick(pool.column("mean_entropy")))
    1
    >>> steps.selection().picks
    ('b',)
    """

    def __init__(self, pool: ScoredPool, n: int):
        """For ``n`` picks from a pool sorted by case identifier."""
        self.pool = pool
        self.n = n
        self.picked = np.zeros(len(pool), dtype=bool)
        self.order: list[int] = []
        rows = min(n, max(1, MAX_UTILITY_BYTES // (8 * len(pool))))
        self._utilities = np.empty((rows, len(pool)))

    @property
    def remaining(self) -> int:
        """How many picks are still to be made."""
        return self.n - len(self.order)

    def pick(self, utility: np.ndarray, index: int | None = None) -> int:
        """One step: record the utilities (n,), pick ``index`` or else the highest one (ties: case identifier).

        Utilities that differ by no more than ``TIE`` of the largest magnitude are ties. The rounding of a matrix product
        depends on the machine and must not decide which case a person labels.
        """
        utility = np.asarray(utility, dtype=np.float64)
        if index is None:
            left = np.where(self.picked, -np.inf, utility)
            with np.errstate(invalid="ignore"):  # the check of the finished answer reports values that are not finite
                margin = TIE * np.abs(utility[~self.picked]).max()
                index = int(np.argmax(left >= left.max() - margin))
        step = len(self.order)
        if step < len(self._utilities):
            self._utilities[step] = np.where(self.picked, np.nan, utility)
        self.picked[index] = True
        self.order.append(int(index))
        return int(index)

    def pick_highest(self, utility: np.ndarray) -> None:
        """All remaining steps with the same utilities (n,): the highest first, ties as in :meth:`pick`."""
        while self.remaining:
            self.pick(utility)

    def selection(self, components: Mapping[str, np.ndarray] | None = None, notes: tuple[str, ...] = ()) -> Selection:
        """The Selection of the steps so far, with the factors (n,) each."""
        import pandas as pd  # not at the top: the list of strategies is printed without it

        cases = self.pool.scores.index
        rows = min(len(self.order), len(self._utilities))
        if rows < len(self.order):
            notes = (*notes, f"Utilities are kept for the first {rows} of {len(self.order)} picks only.")
        return Selection(
            picks=tuple(str(cases[i]) for i in self.order),
            utilities=pd.DataFrame(self._utilities[:rows], columns=cases),
            components=pd.DataFrame(dict(components or {}), index=cases, dtype=np.float64),
            notes=tuple(notes),
        )


class QueryStrategy(ABC):
    """Base class of all strategies. Subclasses set the class attributes and write :meth:`_select`.

    Give every argument of ``__init__`` a default, so that the name alone makes a strategy.

    Attributes:
        name: the name in files and on the command line.
        needs: what the pool must have, in words of :data:`NEEDS`.
        uses: what the strategy uses if the pool has it; otherwise it falls back and says so in the notes.
        columns: score columns that ``_select`` cannot do without.
        paper: where the method comes from.
        cost: time and memory in n (candidates), d (embedding width), b (picks).
        batch_aware: whether later picks of one query depend on earlier ones.
        draws: whether chance decides beyond ties, so that the utility of a pick says little; also true of all that record a
            ``probability``.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset({"predictions"})
    uses: ClassVar[frozenset[str]] = frozenset()
    columns: ClassVar[tuple[str, ...]] = ()
    paper: ClassVar[str] = "-"
    cost: ClassVar[str] = "O(n)"
    batch_aware: ClassVar[bool] = True
    draws: ClassVar[bool] = False

    @final
    def query(self, pool: ScoredPool, n: int, rng: np.random.Generator) -> Selection:
        """Pick ``n`` cases (all, if there are fewer). The order of the pool's rows makes no difference.

        If some scans share a patient, the strategy gets one scan of each patient whose turn it is
        (:mod:`~nnunet_active.strategies.patient_rule`). Once it has picked all these patients, it is asked again.

        Raises:
            EmptyPool: no candidate is left.
            ActiveError: ``n`` < 1, or a score or an array that the strategy needs is missing or malformed.
        """
        if n < 1:
            raise ActiveError(f"The strategy '{self.name}' was asked for {n} cases; ask for at least one.")
        if len(pool) == 0:
            raise EmptyPool("No unlabelled case is left to choose from.")
        check_pool(pool, self.name)
        self._check_needs(pool)
        ordered = pool.sorted()
        n = min(int(n), len(ordered))
        return self._select_by_patient(ordered, n, rng) if pool.patients else self._selected(ordered, n, rng)

    def _selected(self, pool: ScoredPool, n: int, rng: np.random.Generator) -> Selection:
        selection = self._select(pool, n, rng)
        _check_selection(selection, pool, n, self.name)
        return selection

    def _select_by_patient(self, pool: ScoredPool, n: int, rng: np.random.Generator) -> Selection:
        left, answers = pool, []
        while (wanted := n - sum(len(one.picks) for one in answers)) > 0:
            part = left.only(np.sort(self._scans(left, whose_turn(left), rng)))
            answer = self._selected(part, min(wanted, len(part)), rng)
            later = answer.components.drop(columns="probability", errors="ignore")
            answers.append(replace(answer, components=later) if answers else answer)
            left = left.moved_to_labelled(left.scores.index.isin(answer.picks))
        return join_answers(answers, pool)

    def _scans(self, pool: ScoredPool, patients: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
        """Row numbers, (k,): one scan at random for each patient, whose rows are in ``patients``."""
        return scan_at_random(patients, rng)

    @abstractmethod
    def _select(self, pool: ScoredPool, n: int, rng: np.random.Generator) -> Selection:
        """Pick ``n`` (1 <= n <= len(pool)) cases from a sorted pool that has everything in ``needs``."""

    def _check_needs(self, pool: ScoredPool) -> None:
        missing = [f"score column '{name}'" for name in self.columns if name not in pool.scores.columns]
        columns = {"density": "density", "ensemble": "mutual_information", "prediction_gap": "kl_source"}
        for word, column in columns.items():
            if word in self.needs and column not in pool.scores.columns and column not in self.columns:
                missing.append(f"score column '{column}'")
        arrays = ("embedding", "class_mean", "entropy_histogram", "source_embedding")
        missing += [f"array '{word}'" for word in arrays if word in self.needs and word not in pool.arrays]
        if "source_summary" in self.needs and not pool.has_source_summary:
            missing.append("source summary ('centroids' of source-domain embeddings)")
        if missing:
            raise ActiveError(
                f"The strategy '{self.name}' needs the {', the '.join(missing)}, which this pool does not have; "
                "score the pool with what it needs, or choose another strategy."
            )


class ScoreStrategy(QueryStrategy):
    """A strategy that gives every case one number and picks the highest (ties: case identifier)."""

    batch_aware: ClassVar[bool] = False

    @abstractmethod
    def utility(self, pool: ScoredPool, rng: np.random.Generator) -> np.ndarray:
        """The score of each case, (n,) float, finite; the highest is picked first."""

    def components(self, pool: ScoredPool) -> dict[str, np.ndarray]:
        """The named factors of the utility, (n,) each, for the records."""
        return {}

    def notes(self, pool: ScoredPool) -> tuple[str, ...]:
        """Sentences for the user."""
        return ()

    def _select(self, pool: ScoredPool, n: int, rng: np.random.Generator) -> Selection:
        utility = np.asarray(self.utility(pool, rng), dtype=np.float64)
        if utility.shape != (len(pool),):
            raise ActiveError(f"The strategy '{self.name}' gave {utility.shape} utilities for {len(pool)} cases.")
        steps = Steps(pool, n)
        steps.pick_highest(utility)
        return steps.selection(self.components(pool), self.notes(pool))


def join_answers(answers: Sequence[Selection], pool: ScoredPool) -> Selection:
    """Join several answers, given one after the other for parts of a pool, into one for the whole pool."""
    import pandas as pd

    cases = pool.scores.index
    known = [len(one.utilities) == len(one.picks) for one in answers]
    kept = answers[: known.index(False) + 1] if False in known else answers
    candidates = pd.concat([one.components for one in answers])
    notes = list(dict.fromkeys(note for one in answers for note in one.notes))
    if len(candidates) < len(pool):
        notes.insert(0, f"One scan of a patient can be chosen: {len(candidates)} of {len(pool)} are candidates.")
    return Selection(
        picks=tuple(pick for one in answers for pick in one.picks),
        utilities=pd.concat([one.utilities for one in kept], ignore_index=True).reindex(columns=cases),
        components=candidates.reindex(cases),
        notes=tuple(notes),
    )


def _check_selection(selection: Selection, pool: ScoredPool, n: int, name: str) -> None:
    picks = selection.picks
    if len(picks) != n or len(set(picks)) != n or not set(picks) <= set(pool.cases):
        raise ActiveError(
            f"The strategy '{name}' has to pick {n} different cases of the pool, but it picked {len(picks)}: "
            f"{', '.join(map(str, picks[:5]))}; this is an error in the strategy."
        )
    if tuple(selection.utilities.columns) != pool.cases:
        raise ActiveError(f"The utilities of the strategy '{name}' do not have one column for each case of the pool.")
    utilities = selection.utilities.to_numpy(dtype=np.float64)
    position = {case: i for i, case in enumerate(pool.cases)}
    picked = np.zeros(len(pool), dtype=bool)
    for row, case in zip(utilities, picks, strict=False):
        if not np.isfinite(row[~picked]).all():
            raise ActiveError(f"The strategy '{name}' gave utilities that are not finite; this is an error in it.")
        picked[position[case]] = True
