"""Strategies that mix scores, classes, embeddings and chance: foreground_random, aada, ugtst, clasp_pe."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from strategy_pools import from_embedding, indices, make_pool

from nnunet_active.strategies import ScoredPool, get_strategy
from nnunet_active.strategies.ugtst import entropy_above_first_peak


def query(name, pool, n, seed=0, **options):
    return get_strategy(name, **options).query(pool, n, np.random.default_rng(seed))


def with_classes(volume, first_class=1, **columns) -> ScoredPool:
    volume = np.asarray(volume, dtype=float)
    columns = {"foreground_voxels": volume[:, first_class:].sum(axis=1)} | columns
    scores = pd.DataFrame(columns, index=[f"c{i:03d}" for i in range(len(volume))])
    return ScoredPool(scores, {"class_volume": volume}, first_class=first_class)


# foreground_random


def test_foreground_random_leaves_empty_predictions_to_the_end():
    pool = with_classes([[9, 0], [9, 1], [9, 0], [9, 5], [9, 2]])
    for seed in range(30):
        picks = indices(query("foreground_random", pool, 4, seed))
        assert set(picks[:3]) == {1, 3, 4}
        assert picks[3] in (0, 2)


def test_foreground_random_covers_every_predicted_class():
    volume = np.column_stack([np.full(40, 9), np.ones(40), np.arange(40) == 17, np.arange(40) == 23])
    for seed in range(30):
        picks = indices(query("foreground_random", with_classes(volume), 3, seed))
        assert {17, 23} <= set(picks)


def test_foreground_random_is_uniform_within_a_class_and_ignores_the_size():
    pool = with_classes([[9, 1], [9, 1000], [9, 7], [9, 0]])
    counts = np.bincount([indices(query("foreground_random", pool, 1, s))[0] for s in range(1500)], minlength=4)
    assert counts[3] == 0
    assert ((counts[:3] > 430) & (counts[:3] < 570)).all()


def test_foreground_random_ignores_what_an_untrained_head_predicts():
    pool = dataclasses.replace(with_classes([[9, 1], [9, 1000], [9, 7], [9, 0]]), head_trained=False)
    counts = np.bincount([indices(query("foreground_random", pool, 1, s))[0] for s in range(1500)], minlength=4)
    assert ((counts > 310) & (counts < 440)).all()
    assert query("foreground_random", pool, 1).components["probability"].to_numpy() == pytest.approx(0.25)


@pytest.mark.parametrize("name", ["foreground_random", "clasp_pe"])
def test_every_region_counts_as_a_class_also_the_first(name):
    pool = with_classes([[5, 0], [0, 0], [7, 2], [6, 0]], first_class=0, mean_entropy=[0.2] * 4)
    assert query(name, pool, 1).components["predicted_classes"].tolist() == [1, 0, 2, 1]
    one = with_classes([[5], [0]], first_class=0, mean_entropy=[0.2] * 2)
    assert query(name, one, 1).components["predicted_classes"].tolist() == [1, 0]


def test_foreground_random_asks_for_a_scan_with_only_the_first_region_before_an_empty_one():
    pool = with_classes([[0, 0], [0, 0], [5, 0], [7, 0], [9, 2]], first_class=0)
    assert all(set(indices(query("foreground_random", pool, 3, seed))) == {2, 3, 4} for seed in range(20))


def test_foreground_random_without_classes_needs_only_the_foreground():
    pool = ScoredPool(pd.DataFrame({"foreground_voxels": [0.0, 3.0]}, index=["a", "b"]))
    assert query("foreground_random", pool, 2).picks == ("b", "a")


def test_foreground_random_records_the_probability_of_each_pick_given_the_earlier_ones():
    pool = with_classes([[9, 1, 1], [9, 1, 0], [9, 1, 0], [9, 0, 0]])
    first = query("foreground_random", pool, 1).components["probability"]
    assert first.to_numpy() == pytest.approx([(1 / 3 + 1) / 2, 1 / 6, 1 / 6, 0])
    drawn = np.bincount([indices(query("foreground_random", pool, 1, s))[0] for s in range(1500)], minlength=4) / 1500
    assert drawn == pytest.approx(first.to_numpy(), abs=0.05)
    both = next(s for s in (query("foreground_random", pool, 4, seed) for seed in range(50)) if s.picks[0] == "c000")
    later = both.components["probability"][list(both.picks)]
    assert later.to_numpy() == pytest.approx([2 / 3, 1 / 2, 1, 1])


# aada


def test_aada_prefers_uncertain_cases_that_do_not_look_like_the_source():
    rng = np.random.default_rng(0)
    near, far = rng.normal(0, 0.3, size=(10, 3)), rng.normal(4, 0.3, size=(10, 3))
    pool = from_embedding(np.concatenate([near, far]), mean_entropy=np.full(20, 0.2))
    pool = dataclasses.replace(
        pool, source_summary={"centroids": np.zeros((1, 3)), "covariances": 0.1 * np.eye(3)[None]}
    )
    selection = query("aada", pool, 10)
    assert set(indices(selection)) == set(range(10, 20))
    parts = selection.components
    assert parts["weight"].to_numpy() == pytest.approx((1 - parts["source_probability"]) / parts["source_probability"])
    assert selection.utilities.iloc[0].to_numpy() == pytest.approx((parts["weight"] * parts["entropy"]).to_numpy())
    assert parts["source_probability"].between(0.01, 0.99).all()


def test_aada_without_a_summary_is_entropy_and_says_so():
    pool = dataclasses.replace(make_pool(), source_summary=None)
    selection = query("aada", pool, 7)
    assert selection.picks == query("entropy", pool, 7).picks
    assert "reduces to entropy" in selection.notes[0]


def test_aada_on_a_target_like_its_source_is_entropy():
    z = np.random.default_rng(1).normal(size=(60, 2))
    pool = from_embedding(z, mean_entropy=np.linspace(0.1, 0.9, 60))
    pool = dataclasses.replace(pool, source_summary={"centroids": z})
    selection = query("aada", pool, 5)
    assert selection.components["source_probability"].to_numpy() == pytest.approx(0.5, abs=0.01)
    assert indices(selection) == [59, 58, 57, 56, 55]


def test_aada_weighs_both_domains_equally_however_few_source_points_there_are():
    z = np.concatenate([np.random.default_rng(0).normal(0, 0.1, size=(5, 2)), np.full((95, 2), 3.0)])
    pool = dataclasses.replace(
        from_embedding(z, mean_entropy=np.ones(100)), source_summary={"centroids": np.zeros((1, 2))}
    )
    probability = query("aada", pool, 1).components["source_probability"]
    assert (probability[:5] > 0.5).all() and (probability[5:] < 0.5).all()


# ugtst


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([1, 9, 0, 4], 0.875),  # peak in bin 1; bins 2 and 3 are above it
        ([9, 4, 2, 1], (9 * 0.125 + 4 * 0.375 + 2 * 0.625 + 0.875) / 16),  # no inner peak: all voxels
        ([0, 2, 9, 0], (2 * 0.375 + 9 * 0.625) / 11),  # nothing above the peak: all voxels
        ([0, 0, 0, 0], 0.0),
    ],
)
def test_uncertainty_is_averaged_above_the_first_peak(counts, expected):
    assert entropy_above_first_peak(np.array([counts]))[0] == pytest.approx(expected)


def test_ugtst_keeps_four_times_the_uncertain_and_takes_one_per_cluster():
    z = np.array([[0.0], [0.2], [0.4], [50.0], [50.2], [50.4], [51.0], [90.0], [90.0], [90.0]])
    entropy = np.array([0.5, 0.6, 0.7, 0.9, 0.9, 0.8, 0.8, 0.1, 0.2, 0.71])
    selection = query("ugtst", from_embedding(z, mean_entropy=entropy), 2)
    assert selection.components["kept"].astype(bool).tolist() == [True] * 7 + [False, False, True]
    picks = indices(selection)
    assert len({i // 3 for i in picks if i != 6}) >= 1 and not {7, 8} & set(picks)
    assert "entropy histogram" in selection.notes[0]
    three = indices(query("ugtst", from_embedding(z, mean_entropy=entropy), 3, factor=8 / 3))
    assert three == [5, 1, 9]  # heaviest cluster first, the case next to each centre


def test_ugtst_reads_the_histogram_where_there_is_one():
    pool = from_embedding(np.eye(3), mean_entropy=[0.9, 0.5, 0.1])
    histogram = np.array([[1, 9, 1, 0], [1, 9, 0, 0], [1, 9, 0, 1]])
    pool = dataclasses.replace(pool, arrays={**pool.arrays, "entropy_histogram": histogram})
    selection = query("ugtst", pool, 1, factor=1)
    assert indices(selection) == [2] and not selection.notes


# clasp_pe


def test_the_noise_of_clasp_pe_fades_on_a_log_scale():
    strategy = get_strategy("clasp_pe", first_beta=1, last_beta=100)
    assert [strategy.beta(r, 5) for r in range(1, 6)] == pytest.approx([1, 10**0.5, 10, 10**1.5, 100])
    assert strategy.beta(1, 1) == 1 and strategy.beta(9, 5) == pytest.approx(100)


def test_clasp_pe_draws_in_proportion_to_a_power_of_the_entropy():
    entropy = np.array([0.1, 0.2, 0.7])
    pool = with_classes([[9, 1]] * 3, mean_entropy=entropy)
    for beta in (1.0, 2.0):
        draws = [
            indices(query("clasp_pe", pool, 1, s, stratified=0, first_beta=beta, last_beta=beta))[0]
            for s in range(1500)
        ]
        expected = 1500 * entropy**beta / (entropy**beta).sum()
        assert (abs(np.bincount(draws, minlength=3) - expected) < 4 * np.sqrt(expected)).all()


def test_clasp_pe_in_the_last_round_is_nearly_entropy_within_the_classes():
    volume = np.column_stack([np.full(9, 9), np.arange(9) < 6, np.arange(9) >= 6])
    pool = with_classes(volume, mean_entropy=[0.9, 0.8, 0.7, 0.6, 0.55, 0.5, 0.03, 0.02, 0.01])
    pool = dataclasses.replace(pool, round_index=5, rounds=5)
    picks = indices(query("clasp_pe", pool, 3, last_beta=1e6))
    assert picks == [6, 0, 1]  # two of three by class, the rarest first; the last by entropy alone


def test_clasp_pe_without_any_foreground_goes_by_entropy_alone():
    pool = with_classes([[9, 0]] * 3, mean_entropy=[0.1, 0.5, 0.3])
    assert indices(query("clasp_pe", pool, 3, first_beta=1e9, last_beta=1e9)) == [1, 2, 0]
