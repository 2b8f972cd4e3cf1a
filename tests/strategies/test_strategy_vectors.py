"""The shared pieces of geometry against scipy and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist

from nnunet_active.strategies import vectors as geometry

FINITE = st.floats(-1e9, 1e9, allow_subnormal=False)


@given(arrays(np.float64, st.integers(1, 20), elements=FINITE))
@settings(max_examples=80, deadline=None)
def test_min_max_lies_in_0_to_1_and_keeps_the_order(values):
    scaled = geometry.minmax(values)
    assert np.isfinite(scaled).all() and scaled.min() >= 0 and scaled.max() <= 1
    order = np.argsort(values, kind="stable")
    assert (np.diff(scaled[order]) >= 0).all()


def test_min_max_of_rounding_noise_is_zero():
    assert geometry.minmax(np.array([0.3, 0.1 + 0.2])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("chunk_bytes", [1, 1000, 1 << 30])
def test_distances_do_not_depend_on_the_size_of_the_chunks(monkeypatch, chunk_bytes):
    monkeypatch.setattr(geometry, "CHUNK_BYTES", chunk_bytes)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(37, 5)), rng.normal(size=(9, 5))
    assert np.allclose(geometry.mean_over_pairs(x, lambda d: d), cdist(x, x).mean(axis=1), atol=1e-6)
    assert np.allclose(geometry.nearest_distance(x, y), cdist(x, y).min(axis=1))
    assert np.allclose(geometry.nearest_distance(x, y, squared=True), cdist(x, y, "sqeuclidean").min(axis=1))


def test_chunks_cover_every_row_once():
    rows = [i for rows in geometry.chunks(1000, 10**6) for i in range(rows.start, rows.stop)]
    assert rows == list(range(1000))


def test_cosine_distance_to_a_zero_vector_is_1():
    x = np.array([[1.0, 0.0], [0.0, 0.0], [-2.0, 0.0], [0.0, 3.0]])
    assert geometry.cosine_distance(x, np.array([5.0, 0.0])).tolist() == [0.0, 1.0, 2.0, 1.0]
    assert geometry.cosine_distance(x, np.zeros(2)).tolist() == [1.0] * 4


def test_a_case_is_not_its_own_neighbour_even_among_identical_ones():
    x = np.zeros((6, 3))
    _, nearest = geometry.neighbours(x, 3)
    assert nearest.shape == (6, 3)
    assert not (nearest == np.arange(6)[:, None]).any()


def test_neighbours_are_the_nearest_by_brute_force():
    x = np.random.default_rng(1).normal(size=(25, 4))
    distance = cdist(x, x)
    np.fill_diagonal(distance, np.inf)
    found, nearest = geometry.neighbours(x, 4)
    assert np.array_equal(nearest, np.argsort(distance, axis=1)[:, :4])
    assert np.allclose(found, np.sort(distance, axis=1)[:, :4])


def test_equal_rows_are_neighbours_at_distance_zero():
    x = np.random.default_rng(0).normal(size=(6, 50)).repeat(2, axis=0)
    assert not geometry.neighbours(x, 1)[0].any()


def test_a_lone_case_has_no_neighbours_and_two_have_one():
    assert geometry.neighbours(np.ones((1, 2)), 5)[1].shape == (1, 0)
    assert geometry.neighbours(np.ones((2, 2)), 5)[1].tolist() == [[1], [0]]


def test_clusters_find_separate_groups_and_obey_weights():
    x = np.array([[0.0], [1.0], [100.0], [104.0]])
    labels, centres = geometry.cluster(x, 2, np.random.default_rng(0), weights=np.array([1.0, 1.0, 3.0, 1.0]))
    assert labels[0] == labels[1] != labels[2] == labels[3]
    assert sorted(centres[:, 0].tolist()) == pytest.approx([0.5, 101.0])


def test_more_clusters_than_cases_are_as_many_as_cases():
    assert len(geometry.cluster(np.eye(3), 10, np.random.default_rng(0))[1]) == 3
