"""Scans of one patient: for every strategy one of them is a candidate, and the others wait until all patients had their turn."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategy_pools import from_embedding, make_pool

from nnunet_active.strategies import ScoredPool, available_strategies, get_strategy
from nnunet_active.strategies.patient_rule import whose_turn

OFTEN = 1200


def grouped(pool: ScoredPool, patients: dict[str, str], **changes) -> ScoredPool:
    return dataclasses.replace(pool, patients=patients, **changes)


def query(name: str, pool: ScoredPool, n: int, seed: int = 0):
    return get_strategy(name).query(pool, n, np.random.default_rng(seed))


@settings(max_examples=80, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("name", ["random", "foreground_random", "strata", "entropy", "weighted_sum"])
def test_no_patient_gives_another_scan_while_one_that_gave_fewer_has_scans_left(name, data):
    pool = make_pool(n=data.draw(st.integers(1, 12)), labelled=data.draw(st.integers(0, 3)))
    everyone = [*pool.cases, *pool.labelled_cases]
    patients = {case: f"p{data.draw(st.integers(0, 4))}" for case in everyone}
    begun = tuple(data.draw(st.lists(st.sampled_from(everyone), unique=True)))
    pool = grouped(pool, patients, begun=begun)
    n = data.draw(st.integers(1, len(pool)))
    selection = query(name, pool, n, data.draw(st.integers(0, 9)))
    assert len(set(selection.picks)) == n
    known, left = {*begun, *pool.labelled_cases}, set(pool.cases)
    for pick in selection.picks:
        scans = Counter(patients[case] for case in known)
        assert scans[patients[pick]] == min(scans[patients[case]] for case in left)
        known.add(pick)
        left.remove(pick)


@pytest.mark.parametrize("name", available_strategies())
def test_where_every_case_is_a_patient_of_its_own_nothing_changes_draw_for_draw(name):
    pool = make_pool()
    without, alone = query(name, pool, 7), query(name, grouped(pool, {case: f"p{case}" for case in pool.cases}), 7)
    assert alone.picks == without.picks and alone.notes == without.notes
    pd.testing.assert_frame_equal(alone.utilities, without.utilities)
    pd.testing.assert_frame_equal(alone.components, without.components)


@pytest.mark.parametrize("name", available_strategies())
def test_every_strategy_answers_for_the_candidates_and_says_how_many_there_are(name):
    pool = make_pool(n=12)
    pool = grouped(pool, {case: f"p{i // 2}" for i, case in enumerate(sorted(pool.cases))})
    selection = query(name, pool, 9)
    assert not any("One scan of a patient" in note for note in selection.notes), "all had their turn"
    first = selection.utilities.iloc[0].dropna().index
    assert sorted(pool.patient(case) for case in first) == [f"p{i}" for i in range(6)]
    assert len({pool.patient(case) for case in selection.picks[:6]}) == 6
    assert set(selection.components.index) == set(selection.utilities.columns) == set(pool.cases)
    few = query(name, pool, 2)
    assert few.notes[0] == "One scan of a patient can be chosen: 6 of 12 are candidates."


def test_a_scan_that_is_open_again_for_other_slices_waits_for_patients_without_a_label():
    pool = grouped(from_embedding(np.eye(3)), {"c000": "p", "c001": "p", "c002": "q"}, begun=("c000",))
    assert [rows.tolist() for rows in whose_turn(pool)] == [[2]]
    assert query("random", pool, 3).picks[0] == "c002"


def test_every_patient_has_the_same_chance_and_every_scan_of_a_patient_too():
    pool = grouped(from_embedding(np.eye(5)), {"c000": "p", "c001": "p", "c002": "p"})
    drawn = Counter(query("random", pool, 1, seed).picks[0] for seed in range(OFTEN))
    expected = [1 / 9, 1 / 9, 1 / 9, 1 / 3, 1 / 3]
    assert [drawn[case] / OFTEN for case in pool.cases] == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("name", ["random", "foreground_random"])
def test_the_recorded_probability_is_that_among_the_candidates_and_unknown_for_further_scans(name):
    table = pd.DataFrame({"foreground_voxels": np.ones(5)}, index=list("abcde"))
    pool = grouped(ScoredPool(table), {"a": "p", "b": "p", "c": "q", "d": "q"})
    for n, expected in ((3, [1 / 3, 1 / 2, 1]), (5, [1 / 3, 1 / 2, 1, np.nan, np.nan])):
        selection = query(name, pool, n)
        told = selection.components["probability"]
        assert told[list(selection.picks)].to_numpy() == pytest.approx(expected, nan_ok=True)
        assert told.notna().sum() == 3


def test_strata_takes_the_scan_of_a_patient_that_is_nearest_to_the_others_and_keeps_its_probability():
    z = np.array([[1.0, 0.0], [0.95, 0.1], [0.8, 0.4], [0.0, 1.0]])
    pool = grouped(from_embedding(z, foreground_voxels=np.full(4, 9.0)), {"c000": "p", "c001": "p", "c002": "p"})
    for seed in range(5):
        selection = query("strata", pool, 2, seed)
        assert set(selection.picks) == {"c001", "c003"}
        assert selection.components["probability"].notna().tolist() == [False, True, False, True]
