"""Score the pool, ask a strategy, elect the modality to open first: one query, for the trainers and for the command line.

:func:`propose` looks and writes nothing but cached scores, :func:`record` makes a round of what was proposed, :func:`run_query` does
both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_round import Round, RoundContent
from nnunet_active.data.cases import CaseStore
from nnunet_active.nnunet.ensemble_window import EnsembleWindow
from nnunet_active.nnunet.inference import SlidingWindow
from nnunet_active.query.pool_building import build_pool, open_cache
from nnunet_active.query.query_tables import describe_round, score_table, worklist_table
from nnunet_active.scoring.modality import ModalityElection, elect_dominant_modality
from nnunet_active.strategies.base import QueryStrategy, Selection
from nnunet_active.strategies.pool import ScoredPool
from nnunet_active.strategies.registry import get_strategy
from nnunet_active.util.errors import ActiveError, EmptyPool
from nnunet_active.util.log import Log
from nnunet_active.util.ranks import Ranks


@dataclass(frozen=True)
class Proposal:
    """What a query would ask for; nothing is written yet.

    Attributes:
        number: of the round that it would become.
        selection: the picks in order, utilities and components.
        table: one row per candidate, the picks first: every component of every score, ``utility``, ``picked`` (rank or NaN).
        worklist: one row per pick, for the annotator.
        arrays: of all candidates, in the order of ``cases``.
        cases: the candidates in the order of ``arrays``.
        details: further content of ``selection.json``.
    """

    number: int
    selection: Selection
    table: pd.DataFrame
    worklist: pd.DataFrame
    arrays: dict[str, np.ndarray]
    cases: tuple[str, ...]
    details: dict[str, Any]

    @property
    def picks(self) -> tuple[str, ...]:
        """The chosen cases, the first choice first."""
        return self.selection.picks


def propose(
    campaign: Campaign,
    store: CaseStore,
    window: SlidingWindow | EnsembleWindow,
    candidates: Sequence[str],
    channel_names: Sequence[str],
    class_names: Sequence[str],
    ranks: Ranks | None = None,
    log: Log = print,
    size: int | None = None,
    exclude: Sequence[str] = (),
    must_include: Sequence[str] = (),
    strategy: str | None = None,
    strategy_options: Mapping[str, Any] | None = None,
    seed: int | None = None,
) -> Proposal:
    """Score the candidates, choose, elect modalities; nothing is written but cached scores (rank 0 chooses).

    Args:
        campaign: opened campaign; it may be one that exists in memory only.
        store: the preprocessed images.
        window: the network, or the ensemble, that asks.
        candidates: unlabelled cases that may be asked for.
        channel_names: names of the image channels.
        class_names: names of the network's heads.
        ranks: processes of a distributed training.
        log: where to tell what was done.
        size: how many cases; by default as many as the campaign's next query asks for.
        exclude: candidates that are left out of this query.
        must_include: candidates that are picked in any case, first and in this order; the strategy picks the rest as if they were
            labelled already. They count towards ``size``; where they are more, they are the whole query.
        strategy, strategy_options, seed: in place of the campaign's settings; ``strategy`` without options has its defaults.

    Raises:
        EmptyPool: nobody is left to ask for.
        ActiveError: a case of ``must_include`` cannot be asked for, or the strategy lacks something.
    """
    ranks = ranks or Ranks()
    start = perf_counter()
    settings = campaign.settings
    if strategy is None:
        strategy, options = (
            settings.strategy,
            dict(settings.strategy_options if strategy_options is None else strategy_options),
        )
    else:
        options = dict(strategy_options or {})
    seed = settings.seed if seed is None else seed
    chooser = get_strategy(strategy, **options)
    number = len(campaign.rounds) + 1
    size = campaign.size_of_next_query() if size is None else size
    must = list(dict.fromkeys(must_include))
    if unknown := [case for case in must if case not in set(candidates)]:
        raise ActiveError(
            f"{', '.join(unknown)} cannot be included: not among the cases that may still be asked for (unknown, labelled, "
            f"asked for before, or held out)."
        )
    if both := sorted(set(must) & set(exclude)):
        raise ActiveError(f"{', '.join(both)} cannot be both included and excluded.")
    candidates = sorted(set(candidates) - set(exclude))
    if not candidates:
        raise EmptyPool("No unlabelled case is left to choose from.")
    pool, scored = build_pool(campaign, store, window, chooser, candidates, ranks, log)

    def choose() -> Proposal:
        if lost := [case for case in must if case not in pool.scores.index]:
            raise ActiveError(
                f"{lost[0]} cannot be included: {scored.problems.get(lost[0], 'it could not be scored.')}"
            )
        selection = _select(chooser, pool, max(size, len(must)), must, np.random.default_rng([seed, number]))
        elections = _elect(campaign, store, window, selection.picks, settings.modality)
        table = score_table(scored, selection, class_names)
        details = {
            "strategy": strategy,
            "strategy_options": options,
            "seed": seed,
            "candidates": len(pool),
            "excluded": sorted(exclude),
            "must_include": must,
            "dominant_modality": {
                case: {
                    "channel": e.channel,
                    "name": channel_names[e.channel],
                    "dice": list(e.dice),
                    "decided": e.decided,
                }
                for case, e in elections.items()
            },
            "notes": list(selection.notes),
            "set_aside": scored.problems,
            "seconds": round(perf_counter() - start, 2),
        }
        worklist = worklist_table(selection, table, elections, channel_names)
        return Proposal(number, selection, table, worklist, scored.arrays, pool.cases, details)

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
        proposal: from :func:`propose`, made on the campaign as it is now.
        epoch: epoch before which the query is made.
        made_by: ``training`` or ``select``.
        ranks: processes of a distributed training.
        log: where to tell what was done.

    Raises:
        ActiveError: another round was made in the meantime.
    """
    ranks = ranks or Ranks()

    def write() -> Round:
        if proposal.number != len(campaign.rounds) + 1:
            raise ActiveError(
                f"Round {len(campaign.rounds)} was made while round {proposal.number} was being chosen; ask again."
            )
        # the archive's arrays follow the order of scores.csv
        row = {case: i for i, case in enumerate(proposal.cases)}
        order = [row[case] for case in proposal.table.index]
        content = RoundContent(
            requested=proposal.picks,
            scores=proposal.table,
            utilities=proposal.selection.utilities,
            worklist=proposal.worklist,
            arrays={name: values[order] for name, values in proposal.arrays.items()},
            details=proposal.details,
        )
        return campaign.append_round(content, epoch, made_by)

    made = ranks.decide(write)
    if ranks.rank > 0:
        campaign.refresh()
    for sentence in describe_round(made):
        log(sentence)
    return made


def run_query(
    campaign: Campaign,
    store: CaseStore,
    window: SlidingWindow | EnsembleWindow,
    candidates: Sequence[str],
    epoch: int,
    channel_names: Sequence[str],
    class_names: Sequence[str],
    ranks: Ranks | None = None,
    log: Log = print,
    made_by: str = "training",
    size: int | None = None,
    exclude: Sequence[str] = (),
    must_include: Sequence[str] = (),
) -> Round:
    """One query of a campaign: :func:`propose`, then :func:`record`.

    Args:
        campaign: opened and locked (by rank 0).
        store: the preprocessed images.
        window: the network that asks.
        candidates: unlabelled cases that may be asked for.
        epoch: epoch before which the query is made.
        channel_names: names of the image channels.
        class_names: names of the network's heads.
        ranks: processes of a distributed training.
        log: where to tell what was done.
        made_by: ``training`` or ``select``.
        size, exclude, must_include: see :func:`propose`.

    Raises:
        EmptyPool: nobody is left to ask for.
    """
    ranks = ranks or Ranks()
    proposal = propose(
        campaign, store, window, candidates, channel_names, class_names, ranks, log, size, exclude, must_include
    )
    return record(campaign, proposal, epoch, made_by, ranks, log)


def _select(
    strategy: QueryStrategy, pool: ScoredPool, size: int, must: Sequence[str], rng: np.random.Generator
) -> Selection:
    """The strategy's answer; ``must`` comes first, and the strategy sees those cases as labelled."""
    free = strategy.query(pool, size, rng)
    if not must:
        return free
    columns = free.utilities.columns
    rows = []
    for step in range(len(must)):  # what the strategy thought of everybody before the first pick
        row = free.utilities.iloc[0].copy()
        row[list(must[:step])] = np.nan
        rows.append(row)
    notes = (f"Included by the user: {', '.join(must)}.", *free.notes)
    chosen = pool.scores.index.isin(must)
    picks = tuple(must)
    if (left := min(size, len(pool)) - len(must)) > 0:
        rest = strategy.query(pool.moved_to_labelled(chosen), left, rng)
        rows += [row for _, row in rest.utilities.reindex(columns=columns).iterrows()]
        picks += rest.picks
        notes += tuple(note for note in rest.notes if note not in notes)
    utilities = pd.DataFrame(np.array(rows), columns=columns)
    return replace(free, picks=picks, utilities=utilities, notes=notes)


def _elect(
    campaign: Campaign,
    store: CaseStore,
    window: SlidingWindow | EnsembleWindow,
    picks: Sequence[str],
    how: str,
) -> dict[str, ModalityElection]:
    """The dominant modality of each pick; kept with the scores, so that a dry run costs nothing twice."""
    cache, digest, name = open_cache(campaign), window.digest, f"modality_dice_{how}"
    elections = {}
    for case in picks:
        state = store.image_state(case)
        entry = cache.get(digest, case, state)
        if entry is not None and name in entry.arrays:
            dice = tuple(entry.arrays[name].tolist())
            elections[case] = ModalityElection(int(np.argmax(dice)), dice, max(dice) > 0)
            continue
        elections[case] = elect_dominant_modality(window.predicted_classes, store.load_image(case), how)
        cache.add(digest, case, state, {}, {name: np.array(elections[case].dice)})
    return elections
