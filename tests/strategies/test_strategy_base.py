"""The shared checks and the records of greedy steps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from strategy_pools import make_pool, small_pool

from nnunet_active.strategies import QueryStrategy, ScoreStrategy, Selection, Steps, base, get_strategy
from nnunet_active.util.errors import ActiveError

RNG = np.random.default_rng(0)


class Scripted(QueryStrategy):
    """Answers what the test tells it to."""

    name = "scripted"
    needs = frozenset()

    def __init__(self, picks, utilities=None):
        self.picks, self.utilities = picks, utilities

    def _select(self, pool, n, rng):
        frame = pd.DataFrame(0.0, index=range(n), columns=pool.scores.index)
        if self.utilities is not None:
            frame.iloc[:] = self.utilities
        return Selection(tuple(self.picks), frame, pd.DataFrame(index=pool.scores.index))


class Constant(ScoreStrategy):
    name = "constant"
    needs = frozenset()

    def __init__(self, values):
        self.values = values

    def utility(self, pool, rng):
        return np.asarray(self.values, dtype=float)


@pytest.mark.parametrize("picks", [["a"], ["a", "a"], ["a", "z"], ["a", "b", "c"]])
def test_a_strategy_that_picks_wrongly_is_caught(picks):
    with pytest.raises(ActiveError, match="scripted"):
        Scripted(picks).query(small_pool("a", "b", "c"), 2, RNG)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_strategy_with_utilities_that_are_not_finite_is_caught(bad):
    with pytest.raises(ActiveError, match="not finite"):
        Scripted(["a"], [[0.0, bad]]).query(small_pool("a", "b"), 1, RNG)
    with pytest.raises(ActiveError, match="not finite"):
        Constant([0.0, bad]).query(small_pool("a", "b"), 1, RNG)


def test_a_score_of_the_wrong_length_is_caught():
    with pytest.raises(ActiveError, match="utilities for 2 cases"):
        Constant([0.0]).query(small_pool("a", "b"), 1, RNG)


def test_ties_go_to_the_first_identifier_whatever_the_order():
    assert Constant([1, 1, 1]).query(small_pool("b", "c", "a"), 2, RNG).picks == ("a", "b")


def test_numbers_in_identifiers_sort_as_text():
    assert Constant([1, 1, 1]).query(small_pool("case_9", "case_10", "case_1"), 3, RNG).picks == (
        "case_1",
        "case_10",
        "case_9",
    )


def test_more_than_the_pool_holds_gives_all_of_it():
    assert set(Constant([1, 2]).query(small_pool("a", "b"), 99, RNG).picks) == {"a", "b"}


def test_a_missing_need_names_the_strategy_and_the_column():
    with pytest.raises(ActiveError, match="'mmacts' needs the score column 'density'"):
        pool = make_pool()
        get_strategy("mmacts").query(dataclasses.replace(pool, scores=pool.scores.drop(columns="density")), 1, RNG)


def test_utilities_of_late_steps_are_dropped_only_when_they_do_not_fit(monkeypatch):
    full = get_strategy("coreset").query(make_pool(n=20), 10, RNG)
    assert len(full.utilities) == 10 and not any("kept" in note for note in full.notes)
    monkeypatch.setattr(base, "MAX_UTILITY_BYTES", 20 * 8 * 4)
    cut = get_strategy("coreset").query(make_pool(n=20), 10, RNG)
    assert cut.picks == full.picks
    assert cut.utilities.equals(full.utilities.iloc[:4])
    assert "first 4 of 10" in cut.notes[-1]


def test_steps_pick_the_best_that_is_left():
    steps = Steps(small_pool("a", "b", "c"), 2)
    assert [steps.pick(np.array([3.0, 5.0, 4.0])) for _ in range(2)] == [1, 2]
    selection = steps.selection({"x": np.arange(3)})
    assert selection.picks == ("b", "c")
    assert np.isnan(selection.utilities.loc[1, "b"])
    assert selection.components.loc["c", "x"] == 2


def test_differences_of_rounding_size_are_ties():
    assert Steps(small_pool("a", "b"), 1).pick(np.array([0.3, 0.1 + 0.2])) == 0
    assert Steps(small_pool("a", "b"), 1).pick(np.array([0.3, 0.3 + 1e-9])) == 1


def test_utilities_that_differ_by_rounding_are_ties_and_the_identifier_decides():
    value = 0.1 + 0.2  # 0.30000000000000004
    assert Constant([0.3, value, 0.2]).query(small_pool("a", "b", "c"), 2, RNG).picks == ("a", "b")
    assert Constant([value, 0.3, 0.2]).query(small_pool("a", "b", "c"), 1, RNG).picks == ("a",)
    pool = make_pool(n=2, labelled=0)
    first, second = pool.sorted().cases
    entropy = pd.Series([0.3, value], index=[first, second])
    pool = dataclasses.replace(pool, scores=pool.scores.assign(mean_entropy=entropy, foreground_voxels=5.0))
    for name in ("entropy", "cup", "aada"):
        assert get_strategy(name).query(dataclasses.replace(pool, source_summary=None), 1, RNG).picks == (first,), name
