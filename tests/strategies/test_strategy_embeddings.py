"""Strategies on embeddings against brute force: coreset, lamda, typiclust, badge, clue, mhpl."""

from __future__ import annotations

import dataclasses
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import entropy as shannon
from strategy_pools import from_embedding, indices, make_pool

from nnunet_active.strategies import get_strategy
from nnunet_active.strategies import vectors as geometry
from nnunet_active.strategies.badge import gradient_embedding


def query(name, pool, n, seed=0, **options):
    return get_strategy(name, **options).query(pool, n, np.random.default_rng(seed))


def gaussian(n, d=4, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def blobs(sizes, seed=0, spread=0.5):
    """Groups that no clustering can miss, in rows one after the other."""
    rng = np.random.default_rng(seed)
    centres = np.array([[100.0 * i, -70.0 * i * (i % 2), 30.0 * i] for i in range(len(sizes))])
    return np.concatenate([c + spread * rng.normal(size=(k, 3)) for c, k in zip(centres, sizes, strict=True)])


# coreset


def coreset_by_loops(z, labelled, n):
    picks = []
    for _ in range(n):
        if not len(labelled) and not picks:
            mean = [np.mean([np.linalg.norm(a - b) for b in z]) for a in z]
            picks.append(int(np.argmin(mean)))
            continue
        known = [*labelled, *(z[i] for i in picks)]
        distance = [min(np.linalg.norm(a - b) for b in known) if i not in picks else -1 for i, a in enumerate(z)]
        picks.append(int(np.argmax(distance)))
    return picks


@given(st.integers(2, 14), st.integers(0, 3), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_coreset_is_farthest_first_by_brute_force(n, labelled, seed):
    z, known = gaussian(n, seed=seed), gaussian(labelled, seed=seed + 1)
    assert indices(query("coreset", from_embedding(z, known), n)) == coreset_by_loops(z, known, n)


def test_coreset_covers_at_most_twice_as_badly_as_the_best_choice():
    for seed in range(5):
        z = gaussian(11, seed=seed)
        distance = cdist(z, z)
        best = min(distance[:, list(c)].min(axis=1).max() for c in combinations(range(11), 3))
        picks = indices(query("coreset", from_embedding(z), 3))
        assert distance[:, picks].min(axis=1).max() <= 2 * best


# lamda


def mmd(kernel, chosen):
    """MMD^2 of the chosen rows against all rows, from the definition."""
    chosen = list(chosen)
    return kernel.mean() - 2 * kernel[:, chosen].mean() + kernel[np.ix_(chosen, chosen)].mean()


@given(st.integers(3, 12), st.integers(0, 3), st.floats(0.05, 5), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_each_step_of_lamda_lowers_the_discrepancy_most(n, labelled, gamma, seed):
    z = gaussian(n + labelled, d=3, seed=seed)
    kernel = np.exp(-gamma * cdist(z, z, "sqeuclidean"))
    chosen = list(range(n, n + labelled))
    for pick in indices(query("lamda", from_embedding(z[:n], z[n:]), min(n, 5), gamma=gamma)):
        trial = {j: mmd(kernel, [*chosen, j]) for j in range(n) if j not in chosen}
        assert trial[pick] <= min(trial.values()) + 1e-12
        chosen.append(pick)


def test_lamda_is_better_than_most_of_all_subsets():
    for seed in range(4):
        z = gaussian(12, d=2, seed=seed)
        kernel = np.exp(-0.5 * cdist(z, z, "sqeuclidean"))
        every = np.sort([mmd(kernel, c) for c in combinations(range(12), 4)])
        found = mmd(kernel, indices(query("lamda", from_embedding(z), 4)))
        assert found <= np.quantile(every, 0.25)


def test_lamda_has_one_over_d_as_its_default_gamma():
    pool = make_pool(n=25, d=6)
    assert query("lamda", pool, 8).utilities.equals(query("lamda", pool, 8, gamma=1 / 6).utilities)


def test_lamda_in_small_chunks_is_the_same(monkeypatch):
    pool = from_embedding(gaussian(50))
    whole = query("lamda", pool, 10).picks
    monkeypatch.setattr(geometry, "CHUNK_BYTES", 4000)
    assert query("lamda", pool, 10).picks == whole


# typiclust


def typicality_by_loops(z, members, i, k=20):
    distance = sorted(np.linalg.norm(z[i] - z[j]) for j in members if j != i)[: max(1, min(k, len(members) // 2))]
    return 1 / (np.mean(distance) + 1e-5)


def test_typiclust_takes_the_most_typical_of_each_cluster_the_largest_first():
    sizes = [6, 11, 3, 8]
    z, labels = blobs(sizes), np.repeat(range(4), sizes)
    expected = []
    for group in np.argsort([-s for s in sizes]):
        members = np.flatnonzero(labels == group)
        expected.append(max(members, key=lambda i: typicality_by_loops(z, members, i)))
    assert indices(query("typiclust", from_embedding(z), 4)) == expected


def test_typiclust_leaves_clusters_with_a_label_for_later():
    sizes = [9, 7, 5]
    z = blobs([*sizes, 1])[:-1]
    known = blobs(sizes, seed=5)[[0]]  # in the largest cluster
    first = indices(query("typiclust", from_embedding(z, known), 2))
    assert [np.searchsorted(np.cumsum(sizes), i, side="right") for i in first] == [1, 2]


def test_typiclust_works_in_clusters_of_one():
    assert sorted(indices(query("typiclust", from_embedding(blobs([1, 1, 1])), 3))) == [0, 1, 2]


def test_typiclust_goes_round_the_clusters_when_there_are_fewer_than_picks():
    z, sizes = blobs([6, 4]), [6, 4]
    picks = indices(query("typiclust", from_embedding(z), 6, max_clusters=2))
    assert [int(i >= sizes[0]) for i in picks] == [0, 1, 0, 1, 0, 1]


# badge


def test_badge_weighs_a_region_by_its_share_of_the_image():
    pool = from_embedding(np.ones((2, 1)), mean_max_probability=[0.9, 0.9], voxels=[1000, 1000])
    volume, mean = np.array([[600, 300], [10, 5]]), np.ones((2, 2, 1))
    pool = dataclasses.replace(pool, arrays={**pool.arrays, "class_volume": volume, "class_mean": mean}, first_class=0)
    assert gradient_embedding(pool) == pytest.approx(0.1 * volume / 1000)


def badge_by_loops(g, n, rng):
    picks = [int(np.argmax((g**2).sum(axis=1)))]
    while len(picks) < n:
        squared = np.array(
            [min(((a - g[p]) ** 2).sum() for p in picks) if i not in picks else 0 for i, a in enumerate(g)]
        )
        picks.append(int(rng.choice(len(g), p=squared / squared.sum())))
    return picks


@given(st.integers(3, 14), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_badge_is_k_means_plus_plus_by_brute_force(n, seed):
    pool = from_embedding(gaussian(n, seed=seed), mean_max_probability=np.random.default_rng(seed).uniform(0.4, 0.9, n))
    expected = badge_by_loops(gradient_embedding(pool), n - 1, np.random.default_rng(seed))
    assert indices(query("badge", pool, n - 1, seed=seed)) == expected


def test_badge_draws_in_proportion_to_the_squared_distance():
    pool = from_embedding(np.array([[5.0], [4.0], [3.0], [1.0]]), mean_max_probability=np.zeros(4))
    second = np.bincount([indices(query("badge", pool, 2, seed))[1] for seed in range(2100)], minlength=4)
    expected = 2100 * np.array([0, 1, 4, 16]) / 21
    assert second[0] == 0
    assert (abs(second - expected) < 4 * np.sqrt(expected + 1)).all()


def test_the_gradient_embedding_equals_the_voxel_gradients_own_class_blocks():
    """Two classes, features constant within a class, one confidence: the averages factorise and the formula is exact."""
    predicted = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    feature = np.array([[1.0, -2.0], [4.0, 0.5]])[predicted]
    p = np.where(np.arange(2)[None] == predicted[:, None], 0.7, 0.3)
    residual = p - np.eye(2)[predicted]
    own = np.stack([(residual[predicted == c, c, None] * feature[predicted == c]).sum(axis=0) / 8 for c in (0, 1)])
    pool = from_embedding(np.zeros((1, 2)), mean_max_probability=[0.7])
    pool = dataclasses.replace(
        pool,
        arrays={
            **pool.arrays,
            "class_mean": np.array([[[1.0, -2.0], [4.0, 0.5]]]),
            "class_volume": np.array([[6.0, 2.0]]),
        },
    )
    assert gradient_embedding(pool)[0] == pytest.approx(-own.ravel())


def test_badge_on_a_certain_network_still_picks():
    pool = from_embedding(gaussian(6), mean_max_probability=np.ones(6))
    assert len(set(indices(query("badge", pool, 6)))) == 6


# clue


def test_clue_takes_the_case_nearest_to_each_weighted_centre():
    sizes = [5, 7, 4]
    z, labels = blobs(sizes, spread=3.0), np.repeat(range(3), sizes)
    entropy = np.random.default_rng(3).uniform(0.1, 1, len(z))
    expected = []
    for group in sorted(range(3), key=lambda c: -entropy[labels == c].sum()):
        members = np.flatnonzero(labels == group)
        centre = np.average(z[members], axis=0, weights=entropy[members])
        expected.append(members[np.argmin(np.linalg.norm(z[members] - centre, axis=1))])
    assert indices(query("clue", from_embedding(z, mean_entropy=entropy), 3)) == expected


def test_clue_is_drawn_to_the_uncertain_case():
    z = np.array([[0.0], [1.0], [2.0], [3.0]])
    for uncertain in range(4):
        entropy = np.where(np.arange(4) == uncertain, 1.0, 0.01)
        assert indices(query("clue", from_embedding(z, mean_entropy=entropy), 1)) == [uncertain]


# mhpl


@pytest.mark.parametrize("labelled", [0, 4])
def test_mhpl_by_brute_force(labelled):
    z, known = gaussian(40, seed=1), gaussian(labelled, seed=2)
    unit = np.concatenate([z, known])
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    strategy_rng = np.random.default_rng(0)
    ids = geometry.cluster(unit, 8, strategy_rng)[0]  # 44 // 5 = 40 // 5 = 8 clusters
    distance = cdist(unit, unit)
    np.fill_diagonal(distance, np.inf)
    nearest = np.argsort(distance, axis=1)
    score = np.array(
        [
            shannon(np.bincount(ids[nearest[i, :10]]) / 10) * np.mean([unit[i] @ unit[j] for j in nearest[i, :10]])
            for i in range(40)
        ]
    )
    chosen, expected = set(range(40, 40 + labelled)), []
    for i in sorted(range(40), key=lambda i: -score[i]):
        if not chosen & set(nearest[i, :5]):
            expected.append(i)
            chosen.add(i)
    selection = query("mhpl", from_embedding(z, known), 5)
    assert indices(selection) == expected[:5]
    assert (selection.components["purity"] * selection.components["affinity"]).to_numpy() == pytest.approx(score)


def test_mhpl_says_when_it_had_to_pick_neighbours():
    selection = query("mhpl", from_embedding(gaussian(6)), 6)
    assert "no other case was left" in selection.notes[0]
