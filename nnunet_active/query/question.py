"""What a query asks, and whom: the question, filled with what the campaign has, and the candidates that it is put to."""

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
    """What a query asks; what is None is as the campaign has it.

    Attributes:
        size: how many cases, or slices; None: as many as the campaign's next query asks for.
        scans: how many scans the slices are shared out over; None: all where there are enough slices, else as few as hold them.
        exclude: candidates that are left out of this query.
        must_include: candidates that are picked in any case, first and in this order; the strategy picks the rest as if they were
            labelled already. They count towards ``size``; where they are more, they are the whole query.
        strategy, strategy_options: the strategy; one that is named without options has its defaults.
        seed: of everything random.
    """

    size: int | None = None
    scans: int | None = None
    exclude: tuple[str, ...] = ()
    must_include: tuple[str, ...] = ()
    strategy: str | None = None
    strategy_options: Mapping[str, Any] | None = None
    seed: int | None = None

    def filled(self, campaign: Campaign) -> Question:
        """The same, with what the campaign has in the place of what is None."""
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
    """A question that is put to candidates.

    Attributes:
        question: without anything left open.
        chooser: the strategy.
        number: of the round that the answer would become.
        must: cases that are picked in any case.
        candidates: to be scored, sorted.
        size: cases, or slices, that are wanted.
        cases: cases that are wanted, where slices are asked for.
        slices: chooses slices of cases.
    """

    question: Question
    chooser: QueryStrategy
    number: int
    must: list[str]
    candidates: list[str]
    size: int
    cases: int
    slices: SliceQuery

    @property
    def seed(self) -> list[int]:
        """Of everything random in this round."""
        return [self.question.seed, self.number]


def put_question(workspace: Workspace, candidates: Sequence[str], question: Question) -> PutQuestion:
    """Narrow the candidates down to those that have to be scored for a question.

    Raises:
        EmptyPool: nobody is left to ask for.
        ActiveError: a case of ``must_include`` cannot be asked for, or the strategy is not known.
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
    candidates, cases = slices.candidates(candidates, size, must, question.scans)
    if not candidates:
        raise EmptyPool("No unlabelled case is left to choose from.")
    return PutQuestion(question, chooser, number, must, candidates, size, cases, slices)
