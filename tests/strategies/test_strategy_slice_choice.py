from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_active.strategies.slice_choice import RULES, choose_slices, extent, scans_for, share_out, steady_difficulty


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def scan(n: int, first: int, last: int, voxels: float = 1000.0) -> np.ndarray:
    foreground = np.zeros(n)
    foreground[first : last + 1] = voxels
    return foreground


scans = st.tuples(st.integers(1, 40), st.integers(0, 10**6)).map(
    lambda one: (
        rng(one[1]).integers(0, 3, one[0]) * rng(one[1] + 1).integers(0, 500, one[0]),
        rng(one[1] + 2).random(one[0]),
    )
)


@settings(max_examples=200, deadline=None)
@given(scan=scans, count=st.integers(0, 12), rule=st.sampled_from(RULES), data=st.data())
def test_as_many_free_slices_as_there_are_come_back_and_none_twice(scan, count, rule, data):
    foreground, difficulty = scan
    n = len(foreground)
    taken = data.draw(st.sets(st.integers(0, n - 1)))
    found = choose_slices(foreground, difficulty, count, taken, rule, rng())
    assert len(found) == len(set(found)) == min(count, n - len(taken))
    assert found == sorted(found) and not taken & set(found) and set(found) <= set(range(n))


@settings(max_examples=60, deadline=None)
@given(scan=scans, rule=st.sampled_from(RULES), per_round=st.integers(1, 4))
def test_round_after_round_every_slice_is_asked_for_once(scan, rule, per_round):
    foreground, difficulty = scan
    asked: list[int] = []
    while len(asked) < len(foreground):
        asked += choose_slices(foreground, difficulty, per_round, asked, rule, rng(len(asked)))
    assert sorted(asked) == list(range(len(foreground)))


@settings(max_examples=100, deadline=None)
@given(scan=scans, count=st.integers(1, 5), rule=st.sampled_from(RULES))
def test_nothing_outside_of_the_extent_is_asked_for_while_it_has_free_slices(scan, count, rule):
    foreground, difficulty = scan
    first, last = extent(foreground)
    found = choose_slices(foreground, difficulty, count, (), rule, rng())
    if last - first + 1 >= count:
        assert first <= found[0] and found[-1] <= last


def test_the_extent_has_one_more_slice_at_each_end_within_the_scan():
    assert extent(scan(20, 5, 9)) == (4, 10)
    assert extent(scan(20, 0, 19)) == (0, 19)
    assert extent(np.zeros(7)) == (0, 6)


def test_the_most_difficult_slice_of_each_stratum_is_taken():
    difficulty = np.full(20, 0.1)
    difficulty[[6, 9, 13]] = 0.5, 0.4, 0.3
    # the extent 4 to 15 in three strata: 4-7, 8-11, 12-15
    assert choose_slices(scan(20, 5, 14), difficulty, 3) == [6, 9, 13]


def test_equally_difficult_slices_give_the_middle_of_each_stratum_as_centre_does():
    foreground, flat = scan(40, 6, 33), np.full(40, 0.2)
    assert choose_slices(foreground, flat, 4) == choose_slices(foreground, flat, 4, rule="centre")


def test_the_middles_of_equal_strata_in_closed_form():
    assert choose_slices(np.ones(15), np.zeros(15), 3, rule="centre") == [2, 7, 12]
    assert choose_slices(np.ones(9), np.zeros(9), 1, rule="centre") == [4]


def test_a_handful_of_uncertain_voxels_does_not_win():
    foreground, difficulty = scan(11, 1, 9, 2000), np.full(11, 0.3)
    foreground[1], difficulty[1] = 2, 0.69  # nearly the highest entropy there is, on two voxels
    difficulty[5] = 0.4
    assert choose_slices(foreground, difficulty, 1) == [5]


def test_the_steady_difficulty_is_that_of_the_slice_where_much_is_predicted_and_the_mean_where_nothing_is():
    steady = steady_difficulty(np.array([0.0, 1e9, 100.0]), np.array([0.0, 0.2, 0.4]))
    np.testing.assert_allclose(steady, [0.3, 0.2, 0.35], rtol=1e-6)
    assert steady_difficulty(np.zeros(3), np.zeros(3)).tolist() == [0, 0, 0]


def test_a_later_round_leaves_the_strata_of_earlier_slices_alone():
    foreground, flat = np.ones(12), np.zeros(12)
    first = choose_slices(foreground, flat, 1, rule="centre")
    second = choose_slices(foreground, flat, 2, first, rule="centre")
    assert first == [5] and all(abs(one - 5) >= 3 for one in second)


def test_without_a_prediction_the_strata_cover_the_whole_scan():
    found = choose_slices(np.zeros(30), np.zeros(30), 3)
    assert [index // 10 for index in found] == [0, 1, 2]


def test_random_slices_follow_the_foreground_and_the_seed_decides():
    foreground = scan(10, 2, 4)
    foreground[4] *= 8
    draws = [choose_slices(foreground, np.zeros(10), 1, rule="random", rng=rng(seed))[0] for seed in range(400)]
    assert set(draws) == {2, 3, 4} and 0.7 < np.mean(np.array(draws) == 4) < 0.9
    assert draws == [choose_slices(foreground, np.zeros(10), 1, rule="random", rng=rng(s))[0] for s in range(400)]


def test_an_unknown_rule_and_random_without_a_generator_are_refused():
    with pytest.raises(ValueError, match="spread, centre, random"):
        choose_slices(np.ones(4), np.ones(4), 1, rule="best")
    with pytest.raises(ValueError, match="needs a generator"):
        choose_slices(np.ones(4), np.ones(4), 1, rule="random")


@settings(max_examples=200, deadline=None)
@given(count=st.integers(0, 60), free=st.lists(st.integers(0, 12), max_size=12), per_case=st.integers(1, 6))
def test_slices_are_shared_out_as_evenly_as_the_scans_allow(count, free, per_case):
    shares = share_out(count, free, per_case)
    caps = [min(one, per_case) for one in free]
    assert sum(shares) == min(count, sum(caps)) and all(s <= cap for s, cap in zip(shares, caps, strict=True))
    open_ones = [share for share, cap in zip(shares, caps, strict=True) if share < cap]
    if open_ones:  # nobody has two more than somebody who could have had more
        assert max(shares) - min(open_ones) <= 1
    assert open_ones == sorted(open_ones, reverse=True)  # the preferred scans first


@settings(max_examples=200, deadline=None)
@given(count=st.integers(1, 60), free=st.lists(st.integers(1, 12), min_size=1, max_size=60), per_case=st.integers(1, 6))
def test_all_scans_are_asked_where_there_are_slices_for_all_else_as_few_as_hold_them(count, free, per_case):
    number = scans_for(count, free, per_case)
    caps = sorted(min(one, per_case) for one in free)
    assert 1 <= number <= len(free)
    if count >= len(free):
        assert number == len(free)
    else:
        assert sum(caps[:number]) >= count and sum(caps[: number - 1]) < count
