"""Asks a strategy, and puts first what must come first: cases that the user includes, and scans of which no slice was asked for yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from nnunet_active.strategies.base import QueryStrategy, Selection, join_answers
from nnunet_active.strategies.pool import ScoredPool


def pick(
    strategy: QueryStrategy,
    pool: ScoredPool,
    size: int,
    rng: np.random.Generator,
    must: Sequence[str] = (),
    first: Sequence[str] = (),
) -> tuple[Selection, bool]:
    """The strategy's answer, and whether it draws.

    Args:
        strategy: the strategy.
        pool: the candidates.
        size: number of cases to pick.
        rng: the source of everything random.
        must: candidates that come first, whatever the patients, and count as labelled for the rest.
        first: candidates that are all picked before any other. While these are chosen, the others, of which some slices are
            labelled, count as labelled; then they are the candidates, and these count as labelled.
    """
    if not must:
        answer = _in_turn(strategy, pool, size, rng, first)
        return answer, strategy.draws or "probability" in answer.components
    free = strategy.query(replace(pool, patients={}), size, rng)
    columns = free.utilities.columns
    rows = []
    for step in range(len(must)):  # utilities before the first pick
        row = free.utilities.iloc[0].copy()
        row[list(must[:step])] = np.nan
        rows.append(row)
    notes = (f"Included by the user: {', '.join(must)}.", *free.notes)
    chosen = pool.scores.index.isin(must)
    picks = tuple(must)
    if (left := min(size, len(pool)) - len(must)) > 0:
        rest = _in_turn(strategy, pool.moved_to_labelled(chosen), left, rng, first)
        rows += [row for _, row in rest.utilities.reindex(columns=columns).iterrows()]
        picks += rest.picks
        notes += tuple(note for note in rest.notes if note not in notes)
    utilities = pd.DataFrame(np.array(rows), columns=columns)
    # the rest was drawn with other probabilities
    components = free.components.drop(columns="probability", errors="ignore")
    drawn = strategy.draws or "probability" in free.components
    return replace(free, picks=picks, utilities=utilities, components=components, notes=notes), drawn


def _in_turn(
    strategy: QueryStrategy, pool: ScoredPool, size: int, rng: np.random.Generator, first: Sequence[str]
) -> Selection:
    fresh = pool.scores.index.isin(first)
    if not fresh.any() or fresh.all():
        return strategy.query(pool, size, rng)
    answers = [strategy.query(pool.moved_to_labelled(~fresh), size, rng)]
    if (left := size - len(answers[0].picks)) > 0:
        answers.append(strategy.query(pool.moved_to_labelled(fresh), left, rng))
    return join_answers(answers, pool)
