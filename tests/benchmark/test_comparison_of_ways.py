"""Paired tests, corrections, win matrices and ranks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wilcoxon

from nnunet_active.benchmark import paired_tests as comparison


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    base = rng.uniform(0.5, 0.8, 12)
    return pd.DataFrame({"good": base + rng.uniform(0.05, 0.1, 12), "plain": base, "same": base})


def test_the_better_way_wins_every_pair_and_a_tie_counts_half(table: pd.DataFrame):
    wins = comparison.win_matrix(table)
    assert wins.loc["good", "plain"] == 1 and wins.loc["plain", "good"] == 0
    assert wins.loc["plain", "same"] == 0.5 and np.isnan(wins.loc["plain", "plain"])


def test_a_clear_difference_is_significant_and_none_is_not(table: pd.DataFrame):
    tests = comparison.pairwise_tests(table).set_index(["first", "second"])
    clear = tests.loc[("good", "plain")]
    assert clear["p"] == wilcoxon(table["good"] - table["plain"]).pvalue
    assert clear["p"] == pytest.approx(2.0**-11) and clear["p_holm"] == pytest.approx(3 * 2.0**-11)
    assert tests.loc[("plain", "same"), "p_holm"] == 1 and tests.loc[("plain", "same"), "difference"] == 0


def test_three_pairs_cannot_show_a_difference_and_the_table_says_so():
    table = pd.DataFrame({"a": [0.9, 0.8, 0.7], "b": [0.1, 0.2, 0.3]})
    (test,) = comparison.pairwise_tests(table).to_dict("records")
    assert test["p"] == test["smallest_p"] == 0.25


def test_only_units_that_every_way_has_are_paired():
    values = pd.DataFrame({"way": ["a", "a", "b"], "seed": [0, 1, 0], "final": [0.5, 0.6, 0.7]})
    table = comparison.paired(values, ["seed"], "final", ["a", "b"])
    assert table.index.tolist() == [0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_a_p_value_keeps_their_order_and_stays_below_bonferroni(p: list[float]):
    corrected = comparison.holm(np.array(p))
    assert np.all(corrected >= np.array(p) - 1e-15) and np.all(corrected <= 1)
    assert np.all(corrected <= np.minimum(1, np.array(p) * len(p)) + 1e-12)
    order = np.argsort(p, kind="stable")
    assert np.all(np.diff(corrected[order]) >= 0)


def test_ranks_are_sure_where_one_way_always_wins(table: pd.DataFrame):
    ranks = comparison.bootstrap_ranks(table, draws=200).set_index("way")
    assert ranks.loc["good", ["rank", "low", "high", "first"]].tolist() == [1, 1, 1, 1]
    assert ranks.loc["plain", "rank"] == ranks.loc["same", "rank"] == 2.5


def test_ranks_and_wins_of_nothing_are_empty():
    empty = pd.DataFrame({"a": [], "b": []}, dtype=float)
    assert comparison.bootstrap_ranks(empty).empty
    assert comparison.win_matrix(empty).isna().all(axis=None)


def test_the_rounding_of_a_mean_is_no_difference():
    table = pd.DataFrame({"a": [np.mean([0.1, 0.2, 0.3])] * 8, "b": [np.mean([0.3, 0.2, 0.1])] * 8})
    assert (table["a"] != table["b"]).all()
    (test,) = comparison.pairwise_tests(table).to_dict("records")
    assert (test["p"], test["difference"]) == (1, 0) and comparison.win_matrix(table).loc["a", "b"] == 0.5


@pytest.mark.parametrize("ties", [0, 8, 9, 10, 30])
def test_units_in_which_two_ways_are_equal_make_no_difference_more_certain(ties):
    table = pd.DataFrame({"a": [0.1, 0.2, 0.3, 0.4, 0.5] + [0.6] * ties, "b": [0.0] * 5 + [0.6] * ties})
    (test,) = comparison.pairwise_tests(table).to_dict("records")
    assert test["p"] == test["smallest_p"] == 2 / 2**5 and test["n"] == 5 + ties
