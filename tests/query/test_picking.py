"""What comes first in an answer, on pools without images."""

from __future__ import annotations

import numpy as np
import pytest
from strategy_pools import make_pool, small_pool

from nnunet_active.query.picking import pick
from nnunet_active.strategies import get_strategy


def ask(pool, size, *order, strategy="entropy"):
    return pick(get_strategy(strategy), pool, size, np.random.default_rng(0), *order)


def test_included_cases_come_first_then_the_fresh_ones_then_the_others():
    answer, drawn = ask(small_pool(*"abcdef"), 5, ["b"], ["a", "c"])
    assert answer.picks == ("b", "c", "a", "f", "e") and not drawn
    assert list(answer.utilities.columns) == list("abcdef") and len(answer.utilities) == 5
    assert answer.notes[0] == "Included by the user: b."


@pytest.mark.parametrize("first", [(), ("a", "b", "c"), ("z",)])
def test_where_all_or_none_come_first_the_strategy_is_asked_once(first):
    pool = small_pool(*"abc")
    answer, _ = ask(pool, 2, (), first)
    alone = get_strategy("entropy").query(pool, 2, np.random.default_rng(0))
    assert answer.picks == alone.picks == ("c", "b") and answer.utilities.equals(alone.utilities)


def test_while_the_fresh_ones_are_chosen_the_others_count_as_labelled():
    pool = make_pool()
    fresh = pool.cases[:3]
    answer, _ = ask(pool, 4, (), fresh, strategy="coreset")
    rest = pool.moved_to_labelled(~pool.scores.index.isin(fresh))
    one_by_one = get_strategy("coreset").query(rest, 3, np.random.default_rng(0)).picks
    assert answer.picks[:3] == one_by_one and answer.picks[3] not in fresh


@pytest.mark.parametrize(("strategy", "drawn"), [("random", True), ("badge", True), ("entropy", False)])
def test_whether_chance_decides_is_said_also_where_no_probability_is_known(strategy, drawn):
    pool = make_pool()
    assert ask(pool, 2, strategy=strategy)[1] is ask(pool, 2, [pool.cases[0]], strategy=strategy)[1] is drawn
