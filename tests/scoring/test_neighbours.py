from __future__ import annotations

import numpy as np
import pytest

from nnunet_active.scoring import neighbours
from nnunet_active.scoring.density import default_radius, neighbour_counts, pairwise_distances
from nnunet_active.scoring.neighbours import merged_bins, neighbours_in_pool


def signatures(n: int, modalities: int = 2, bins: int = 2048) -> np.ndarray:
    """Quantile functions of mixtures whose widths and tails differ from case to case."""
    rng = np.random.default_rng(0)
    u = (1 - np.cos(np.pi * (np.arange(bins) + 0.5) / bins)) / 2
    shape = rng.uniform([0.5, -0.5, 0.0], [2.0, 0.5, 1.0], size=(n, modalities, 3))
    scale, skew, tail = (one[..., None] for one in np.moveaxis(shape, -1, 0))
    logit = np.log(u / (1 - u))
    values = scale * (logit + skew * logit**2 / 4 + tail * np.sinh(logit) / 20)
    return values - values.mean(axis=2, keepdims=True)


def test_a_pool_that_is_not_large_is_counted_exactly():
    values = signatures(40)
    counts, radius = neighbours_in_pool(values)
    distances = pairwise_distances(values)
    assert radius == default_radius(distances)
    np.testing.assert_array_equal(counts, neighbour_counts(distances, radius))


@pytest.mark.parametrize("rows", [7, 64, 1000])
def test_in_a_large_pool_every_pair_within_the_radius_counts_for_both(monkeypatch, rows):
    monkeypatch.setattr(neighbours, "MOST_EXACT", 50)
    monkeypatch.setattr(neighbours, "_ROWS", rows)
    values = signatures(200)
    counts, radius = neighbours_in_pool(values)
    distances = pairwise_distances(merged_bins(values)[:, None])
    np.testing.assert_array_equal(counts, neighbour_counts(distances, radius))


def test_its_density_is_nearly_that_of_the_definition(monkeypatch):
    values = signatures(600)
    exact, radius = neighbours_in_pool(values)
    monkeypatch.setattr(neighbours, "MOST_EXACT", 300)
    counts, drawn_radius = neighbours_in_pool(values)
    assert drawn_radius == pytest.approx(radius, rel=0.05)
    assert np.corrcoef(counts, exact)[0, 1] > 0.995


def test_merged_bins_give_nearly_the_same_distances():
    values = signatures(50, modalities=4)
    merged = merged_bins(values)
    assert merged.shape == (50, 512)
    exact, found = pairwise_distances(values), pairwise_distances(merged[:, None])
    between = ~np.eye(50, dtype=bool)
    assert (found <= exact + 1e-12).all()
    np.testing.assert_allclose(found[between], exact[between], rtol=0.005)


def test_equal_cases_and_a_single_one_are_their_own_neighbours_alone_where_the_radius_is_zero(monkeypatch):
    monkeypatch.setattr(neighbours, "MOST_EXACT", 2)
    counts, radius = neighbours_in_pool(np.ones((5, 1, 8)))
    assert counts.tolist() == [1] * 5 and radius == 0
    counts, radius = neighbours_in_pool(np.ones((1, 1, 8)))
    assert counts.tolist() == [1] and radius == 0
