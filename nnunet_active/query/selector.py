"""Makes one query, for the trainers and the command line: scores the pool, asks a strategy, and elects the modality to open first.

:func:`propose` chooses and writes only cached scores, :func:`record` makes a round of a proposal, and :func:`run_query` does both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_round import Round, RoundContent
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.nnunet.ensemble_window import EnsembleWindow
from nnunet_active.nnunet.inference import SlidingWindow
from nnunet_active.query.picking import pick
from nnunet_active.query.pool_building import build_pool, open_cache
from nnunet_active.query.pool_scoring import LeftOut, PoolScores, leaving_out
from nnunet_active.query.query_tables import describe_round, election_details, score_table, worklist_table
from nnunet_active.query.question import Question, put_question
from nnunet_active.scoring.modality import ModalityElection, elect_dominant_modality
from nnunet_active.strategies.base import Selection
from nnunet_active.strategies.pool import ScoredPool
from nnunet_active.strategies.registry import failing_as
from nnunet_active.util.errors import ActiveError, EmptyPool
from nnunet_active.util.log import Log
from nnunet_active.util.ranks import Ranks
from nnunet_active.workspace import Workspace


@dataclass(frozen=True)
class Proposal:
    """What a query would ask for; nothing is written yet.

    Attributes:
        number: number of the round that it would become.
        selection: the picks in order, utilities and components.
        table: one row per scored case, the picks first: every component of every score, ``utility``, ``picked`` (rank or NaN).
        worklist: one row per pick, for the annotator.
        arrays: arrays of all scored cases, in the order of ``cases``.
        cases: the scored cases in the order of ``arrays``.
        details: further content of ``selection.json``.
        slices: the requested slices of every pick; empty if whole cases are asked for.
    """

    number: int
    selection: Selection
    table: pd.DataFrame
    worklist: pd.DataFrame
    arrays: dict[str, np.ndarray]
    cases: tuple[str, ...]
    details: dict[str, Any]
    slices: dict[str, SliceRequest] = field(default_factory=dict)

    @property
    def picks(self) -> tuple[str, ...]:
        """The chosen cases, first choice first."""
        return self.selection.picks

    @property
    def ranked(self) -> pd.DataFrame:
        """The table for a round: without scans that have no utility, because another scan of the patient was the candidate."""
        return self.table.dropna(subset="utility")

    @property
    def units(self) -> int:
        """The proposal's cost to the budget, in cases or slices."""
        return sum(len(one.slices) for one in self.slices.values()) if self.slices else len(self.picks)


def propose(
    workspace: Workspace,
    window: SlidingWindow | EnsembleWindow,
    candidates: Sequence[str],
    question: Question = Question(),
    ranks: Ranks | None = None,
    log: Log = print,
) -> Proposal:
    """Score the candidates, choose, and elect modalities. Writes only cached scores (rank 0 chooses).

    Args:
        workspace: gives the campaign (which may exist in memory only) and the preprocessed images.
        window: the querying network or ensemble.
        candidates: unlabelled cases that may be asked for.
        question: what to ask for.
        ranks: processes of a distributed training.
        log: gets messages.

    Raises:
        EmptyPool: no case is left to ask for.
        ActiveError: a case of ``must_include`` cannot be asked for, or the strategy lacks something.
    """
    ranks = ranks or Ranks()
    start = perf_counter()
    asked = put_question(workspace, candidates, question)
    must, seed = asked.must, asked.seed
    pool, scored = build_pool(workspace, window, asked.chooser, asked.candidates, ranks, log)
    channel_names = workspace.channel_names

    def answer(pool: ScoredPool, scored: PoolScores) -> Proposal:
        if lost := [case for case in must if case not in pool.scores.index]:
            raise ActiveError(
                f"{lost[0]} cannot be included: {scored.problems.get(lost[0], 'it could not be scored.')}"
            )
        if not len(pool):
            raise EmptyPool("No unlabelled case is left that can be scored.")
        size, rng = max(asked.cases, len(must)), np.random.default_rng(seed)
        with failing_as(asked.question.strategy):
            selection, drawn = pick(asked.chooser, pool, size, rng, must, asked.first)
        cache = open_cache(workspace.campaign)
        choice = asked.slices.choose(selection.picks, asked.size, window, cache, seed, pool.head_trained)
        elections = _elect(workspace, window, selection.picks)
        table = score_table(scored, selection, workspace.class_names)
        details = {
            "strategy": asked.question.strategy,
            "strategy_options": dict(asked.question.strategy_options),
            "seed": asked.question.seed,
            "drawn": drawn,
            "candidates": int(table["utility"].notna().sum()),
            "excluded": sorted(asked.question.exclude),
            "must_include": must,
            "dominant_modality": election_details(elections, channel_names),
            **({"slice_choice": choice.facts} if choice.facts else {}),
            "notes": list(selection.notes),
            "set_aside": scored.problems,
            "seconds": round(perf_counter() - start, 2),
        }
        worklist = worklist_table(selection, table, elections, channel_names, choice.requests, drawn)
        return Proposal(asked.number, selection, table, worklist, scored.arrays, pool.cases, details, choice.requests)

    def choose() -> Proposal:
        left, found = pool, scored
        while True:
            try:
                return answer(left, found)
            except LeftOut as error:  # a strategy that needs no scores picked what nobody has read before
                log(f"WARNING: {error}")
                left = left.only(np.flatnonzero(left.scores.index != error.case))
                found = found.without(error.case, str(error))

    return ranks.decide(choose)


def record(
    campaign: Campaign,
    proposal: Proposal,
    epoch: int = 0,
    made_by: str = "training",
    ranks: Ranks | None = None,
    log: Log = print,
) -> Round:
    """Make a round of a proposal (rank 0 writes).

    Args:
        campaign: opened and locked (by rank 0).
        proposal: from :func:`propose`, made on the campaign's present state.
        epoch: epoch before which the query is made.
        made_by: ``training`` or ``select``.
        ranks: processes of a distributed training.
        log: gets a description of the round.

    Raises:
        ActiveError: another round was made in the meantime.
    """
    ranks = ranks or Ranks()

    def write() -> Round:
        if proposal.number != len(campaign.rounds) + 1:
            raise ActiveError(
                f"Round {len(campaign.rounds)} was made while round {proposal.number} was being chosen; ask again."
            )
        # the arrays in embeddings.npz follow the order of scores.csv
        row = {case: i for i, case in enumerate(proposal.cases)}
        order = [row[case] for case in proposal.ranked.index]
        content = RoundContent(
            requested=proposal.picks,
            scores=proposal.ranked,
            utilities=proposal.selection.utilities,
            worklist=proposal.worklist,
            arrays={name: values[order] for name, values in proposal.arrays.items()},
            details=proposal.details,
            slices=proposal.slices,
        )
        return campaign.append_round(content, epoch, made_by)

    made = ranks.decide(write)
    if ranks.shared:
        ranks.together(campaign.refresh)
    for sentence in describe_round(made):
        log(sentence)
    return made


def run_query(
    workspace: Workspace,
    window: SlidingWindow | EnsembleWindow,
    candidates: Sequence[str],
    epoch: int,
    ranks: Ranks | None = None,
    log: Log = print,
) -> Round:
    """Make one query of a training: :func:`propose` with the campaign's settings, then :func:`record`.

    Args:
        workspace: its campaign is locked (by rank 0).
        window: the querying network.
        candidates: unlabelled cases that may be asked for.
        epoch: epoch before which the query is made.
        ranks: processes of a distributed training.
        log: gets messages.

    Raises:
        EmptyPool: no case is left to ask for.
    """
    ranks = ranks or Ranks()
    proposal = propose(workspace, window, candidates, ranks=ranks, log=log)
    return record(workspace.campaign, proposal, epoch, "training", ranks, log)


def _elect(
    workspace: Workspace, window: SlidingWindow | EnsembleWindow, picks: Sequence[str]
) -> dict[str, ModalityElection]:
    """The dominant modality of each pick; cached with the scores, so that a query after a dry run does not repeat the work."""
    store, how = workspace.store, workspace.campaign.settings.modality
    cache, digest, name = open_cache(workspace.campaign), window.digest, f"modality_dice_{how}"
    elections = {}
    for case in picks:
        with leaving_out(case):
            state = store.image_state(case)
            entry = cache.get(digest, case, state)
            if entry is not None and name in entry.arrays:
                elections[case] = ModalityElection.of(tuple(entry.arrays[name].tolist()))
                continue
            elections[case] = elect_dominant_modality(window.predicted_classes, store.load_image(case), how)
            cache.add(digest, case, state, {}, {name: np.array(elections[case].dice)})
    return elections
