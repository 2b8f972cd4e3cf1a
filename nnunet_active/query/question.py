"""What a query asks for: the question, completed by the campaign's settings, and its candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.query.slice_query import SliceQuery
from nnunet_active.strategies.base import QueryStrategy
from nnunet_active.strategies.registry import get_strategy
from nnunet_active.util.errors import ActiveError, EmptyPool
from nnunet_active.workspace import Workspace


@dataclass(frozen=True)
class Question:
    """What a query asks for; None takes the campaign's value.

    Attributes:
        size: number of cases or slices; None for the size of the campaign's next query.
        scans: number of scans to spread the slices over; None for all if there are enough slices, else as few as hold them.
        exclude: candidates to leave out of this query.
        must_include: candidates that are always picked, first and in this order; the strategy picks the rest as if these were
            labelled already. They count towards ``size``; if they are more than that, they are the whole query.
        strategy, strategy_options: the strategy; if it is named without options, its defaults apply.
        seed: seed of everything random.
    """

    size: int | None = None
    scans: int | None = None
    exclude: tuple[str, ...] = ()
    must_include: tuple[str, ...] = ()
    strategy: str | None = None
    strategy_options: Mapping[str, Any] | None = None
    seed: int | None = None

    def filled(self, campaign: Campaign) -> Question:
        """The question with the campaign's values in place of None."""
        settings = campaign.settings
        own = settings.strategy_options if self.strategy is None else {}
        return replace(
            self,
            size=campaign.size_of_next_query() if self.size is None else self.size,
            strategy=self.strategy or settings.strategy,
            strategy_options=dict(own if self.strategy_options is None else self.strategy_options),
            seed=settings.seed if self.seed is None else self.seed,
        )


@dataclass(frozen=True)
class PutQuestion:
    """A completed question with its candidates.

    Attributes:
        question: the question, without None left except in ``scans``.
        chooser: the strategy.
        number: number of the round that the answer would become.
        must: cases that are always picked.
        candidates: cases to score, sorted.
        size: number of cases or slices wanted.
        cases: number of cases to choose; differs from ``size`` if slices are asked for.
        slices: chooses slices of cases.
        first: candidates that are all picked before any other; see :meth:`SliceQuery.candidates`.
    """

    question: Question
    chooser: QueryStrategy
    number: int
    must: list[str]
    candidates: list[str]
    size: int
    cases: int
    slices: SliceQuery
    first: tuple[str, ...] = ()

    @property
    def seed(self) -> list[int]:
        """Seed of everything random in this round."""
        return [self.question.seed, self.number]


def put_question(workspace: Workspace, candidates: Sequence[str], question: Question) -> PutQuestion:
    """Narrow the candidates down to those that must be scored for a question.

    Raises:
        EmptyPool: no case is left to ask for.
        ActiveError: a case of ``must_include`` cannot be asked for, or the strategy is unknown.
    """
    campaign = workspace.campaign
    question = question.filled(campaign)
    chooser = get_strategy(question.strategy, **question.strategy_options)
    number = len(campaign.rounds) + 1
    must = list(dict.fromkeys(question.must_include))
    if unknown := [case for case in must if case not in set(candidates)]:
        raise ActiveError(
            f"{', '.join(unknown)} cannot be included: not among the cases that may still be asked for (unknown, labelled, "
            f"asked for before, or held out)."
        )
    if both := sorted(set(must) & set(question.exclude)):
        raise ActiveError(f"{', '.join(both)} cannot be both included and excluded.")
    candidates = sorted(set(candidates) - set(question.exclude))
    size = max(question.size, len(must))
    slices = SliceQuery(campaign, workspace.store)
    if campaign.asks_for_slices and (full := [case for case in must if not slices.open_slices(case)]):
        raise ActiveError(f"{', '.join(full)} cannot be included: every slice is labelled or was asked for.")
    candidates, cases, first = slices.candidates(candidates, size, must, question.scans)
    if not candidates:
        raise EmptyPool("No unlabelled case is left to choose from.")
    return PutQuestion(question, chooser, number, must, candidates, size, cases, slices, first)
