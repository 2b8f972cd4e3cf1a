"""The formulas of reliability by hand and by brute force, and the answers for odd pools."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_active.scoring.reliability import reliability, semantic_distance

NONE_EMPTY = np.zeros(6, dtype=bool)
CONFIDENCE = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
DISTANCE = np.array([0.5, 0.1, 0.2, 0.3, 0.6, 0.4])


def chosen(table) -> list[int]:
    return list(np.flatnonzero(table["reliable"]))


def test_the_distance_is_that_to_the_nearest_labelled_case_in_angle_alone():
    z = np.array([[1.0, 0.0], [0.0, 5.0], [-2.0, 0.0], [3.0, 3.0]])
    distance, nearest = semantic_distance(z, np.array([[10.0, 0.0], [0.0, 0.1]]))
    assert distance == pytest.approx([0.0, 0.0, 1.0, 1 - math.sqrt(0.5)])
    assert list(nearest[:3]) == [0, 1, 1]


def test_an_embedding_of_zeros_is_at_distance_1_from_everything():
    distance, _ = semantic_distance(np.zeros((2, 3)), np.array([[1.0, 2.0, 3.0]]))
    assert list(distance) == [1.0, 1.0]
    distance, _ = semantic_distance(np.ones((2, 3)), np.zeros((1, 3)))
    assert list(distance) == [1.0, 1.0]


def test_the_distance_to_nobody_is_not_a_number_and_names_nobody():
    distance, nearest = semantic_distance(np.ones((2, 3)), np.zeros((0, 3)))
    assert np.isnan(distance).all() and list(nearest) == [-1, -1]


def test_embeddings_of_other_widths_are_refused():
    with pytest.raises(ValueError, match="cannot be compared"):
        semantic_distance(np.ones((2, 3)), np.ones((2, 4)))


def test_the_most_confident_and_the_nearer_half_by_hand():
    # the three most confident are 0 1 2, the three nearest 1 2 3
    assert chosen(reliability(CONFIDENCE, DISTANCE, NONE_EMPTY)) == [1, 2]
    assert chosen(reliability(CONFIDENCE, DISTANCE, NONE_EMPTY, nearer_fraction=1.0)) == [0, 1, 2]
    assert chosen(reliability(CONFIDENCE, DISTANCE, NONE_EMPTY, confident_fraction=1.0)) == [1, 2, 3]
    assert chosen(reliability(CONFIDENCE, DISTANCE, NONE_EMPTY, confident_fraction=0.0)) == []


def test_an_empty_prediction_is_never_reliable_unless_asked_for():
    empty = np.array([False, True, False, False, False, False])
    strict = reliability(CONFIDENCE, DISTANCE, empty)
    assert not strict.loc[1, ["eligible", "confident", "near", "reliable"]].any()
    assert chosen(strict) == [2, 3]  # of the other five the most confident are 0 2 3, the nearest 2 3 5
    assert chosen(reliability(CONFIDENCE, DISTANCE, empty, allow_empty=True)) == [1, 2]


def test_a_confidence_that_is_not_a_number_is_never_reliable():
    confidence = np.array([np.nan, 0.95, 0.99])
    table = reliability(confidence, np.array([0.0, 0.1, 0.2]), np.zeros(3, bool), 1.0, 1.0, allow_empty=True)
    assert chosen(table) == [1, 2]


def test_without_distances_the_confidence_decides_alone():
    assert chosen(reliability(CONFIDENCE, np.full(6, np.nan), NONE_EMPTY)) == [0, 1, 2]


def test_cases_that_are_all_equal_are_all_in():
    assert chosen(reliability(np.full(6, 0.7), np.full(6, 0.2), NONE_EMPTY)) == list(range(6))


def test_one_case_in_the_pool_and_none():
    assert chosen(reliability(np.array([0.3]), np.array([0.9]), np.array([False]))) == [0]
    assert chosen(reliability(np.array([0.3]), np.array([0.9]), np.array([True]))) == []
    assert len(reliability(np.array([]), np.array([]), np.array([]))) == 0


def test_a_fraction_of_a_round_number_of_cases_is_not_one_more():
    values = np.arange(30.0)
    table = reliability(values, values, np.zeros(30, bool), confident_fraction=0.1, nearer_fraction=1.0)
    assert int(table["confident"].sum()) == 3


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 25), st.floats(0, 1), st.floats(0, 1), st.integers(0, 10**6))
def test_it_agrees_with_counting_and_does_not_depend_on_the_order(n, q, f, seed):
    rng = np.random.default_rng(seed)
    confidence, distance, empty = rng.choice(20, n) / 20, rng.choice(20, n) / 20, rng.random(n) < 0.2
    eligible = [i for i in range(n) if not empty[i]]
    expected = []
    for i in eligible:
        better = sum(confidence[j] > confidence[i] for j in eligible)
        nearer = sum(distance[j] < distance[i] for j in eligible)
        # in, if fewer than the quota are strictly better
        if better < math.ceil(q * len(eligible) - 1e-9) and nearer < math.ceil(f * len(eligible) - 1e-9):
            expected.append(i)
    table = reliability(confidence, distance, empty, q, f)
    assert chosen(table) == expected
    order = rng.permutation(n)
    turned = reliability(confidence[order], distance[order], empty[order], q, f)
    assert list(turned["reliable"]) == list(table["reliable"].to_numpy()[order])
