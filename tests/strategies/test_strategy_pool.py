"""The pool that every strategy gets, and what it is refused for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from strategy_pools import from_embedding, make_pool, small_pool

from nnunet_active.strategies import ScoredPool, get_strategy
from nnunet_active.strategies.pool import check_pool
from nnunet_active.util.errors import ActiveError

RNG = np.random.default_rng(0)


def test_doubled_identifiers_are_refused():
    with pytest.raises(ActiveError, match="unique"):
        check_pool(small_pool("a", "a"), "entropy")


def test_numbers_as_identifiers_are_refused():
    pool = ScoredPool(pd.DataFrame({"mean_entropy": [1.0]}, index=[7]))
    with pytest.raises(ActiveError, match="strings"):
        check_pool(pool, "entropy")


def test_a_labelled_case_among_the_candidates_is_refused_by_name():
    pool = dataclasses.replace(small_pool("a", "b"), labelled_cases=("b",))
    with pytest.raises(ActiveError, match=r"candidates: b\."):
        check_pool(pool, "entropy")


def test_arrays_of_the_wrong_length_or_width_are_refused():
    pool = make_pool()
    short = dataclasses.replace(pool, arrays={"embedding": np.zeros((3, 6))})
    narrow = dataclasses.replace(pool, labelled_arrays={"embedding": np.zeros((3, 2))})
    classes = dataclasses.replace(pool, arrays={**pool.arrays, "class_volume": np.ones((24, 9))})
    for broken, words in ((short, "3 rows for 24"), (narrow, "same network"), (classes, "number of classes")):
        with pytest.raises(ActiveError, match=words):
            get_strategy("random").query(broken, 1, RNG)


def test_sorting_a_pool_keeps_rows_together():
    pool = make_pool()
    ordered = pool.sorted()
    assert list(ordered.scores.index) == sorted(pool.scores.index)
    for row, case in enumerate(ordered.scores.index):
        at = pool.cases.index(case)
        assert ordered.scores.iloc[row].equals(pool.scores.iloc[at])
        assert all(np.array_equal(ordered.arrays[k][row], pool.arrays[k][at]) for k in pool.arrays)
    for row, case in enumerate(ordered.labelled_cases):
        at = pool.labelled_cases.index(case)
        assert np.array_equal(ordered.labelled_arrays["embedding"][row], pool.labelled_arrays["embedding"][at])


@pytest.mark.parametrize("labelled", [0, 3])
def test_moving_cases_to_the_labelled_ones_loses_none(labelled):
    pool = make_pool(n=6, labelled=labelled)
    picked = np.array([True, False, True, False, False, False])
    moved = pool.moved_to_labelled(picked)
    assert len(moved) == 4 and len(moved.labelled_cases) == labelled + 2
    assert moved.labelled_cases[-2:] == (pool.cases[0], pool.cases[2])
    assert np.array_equal(moved.labelled_arrays["embedding"][-2:], pool.arrays["embedding"][[0, 2]])
    assert len(moved.labelled_arrays["embedding"]) == labelled + 2


def test_picks_count_as_labelled_even_where_the_labelled_cases_have_no_arrays():
    pool = dataclasses.replace(make_pool(n=6, labelled=3), labelled_arrays={})
    moved = pool.moved_to_labelled(np.arange(6) == 2)
    assert moved.labelled_cases == (pool.cases[2],)
    assert np.array_equal(moved.labelled_arrays["embedding"], pool.arrays["embedding"][[2]])


def test_a_column_is_a_copy_with_its_gaps_filled():
    pool = from_embedding(np.zeros((3, 2)), mean_entropy=[1.0, np.nan, np.inf])
    values = pool.column("mean_entropy", missing=-1.0)
    assert values.tolist() == [1.0, -1.0, -1.0]
    values[:] = 9
    assert pool.scores["mean_entropy"].iloc[0] == 1.0


def test_an_array_of_labelled_cases_without_any_is_no_fault():
    pool = dataclasses.replace(small_pool("a", "b"), labelled_arrays={"embedding": np.zeros((0, 3))})
    check_pool(pool, "somebody")
