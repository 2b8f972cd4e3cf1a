"""Strategies with a closed form: random, entropy, margin, least_confidence, bald, mmacts, cup, stdr."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from strategy_pools import from_embedding, indices, make_pool

from nnunet_active.strategies import ScoredPool, get_strategy
from nnunet_active.strategies.stdr import class_weighted_feature
from nnunet_active.util.errors import ActiveError


def query(name, pool, n, seed=0, **options):
    return get_strategy(name, **options).query(pool, n, np.random.default_rng(seed))


def table(**columns) -> ScoredPool:
    size = len(next(iter(columns.values())))
    return ScoredPool(pd.DataFrame(columns, index=[f"c{i:03d}" for i in range(size)]))


def test_random_gives_every_case_the_same_chance():
    pool = table(mean_entropy=[9.0, 0.0, 0.0, 0.0])
    counts = np.bincount([indices(query("random", pool, 1, seed))[0] for seed in range(2000)], minlength=4)
    assert ((counts > 430) & (counts < 570)).all()  # 500 +- 3.6 standard deviations


@pytest.mark.parametrize(
    ("name", "column", "values", "order"),
    [
        ("entropy", "mean_entropy", [0.1, np.nan, 0.3, 0.2], [2, 3, 0, 1]),
        ("margin", "mean_margin", [0.9, np.nan, 0.2, 0.5], [2, 3, 0, 1]),
        ("least_confidence", "mean_max_probability", [0.9, np.nan, 0.6, 0.7], [2, 3, 0, 1]),
        ("bald", "mutual_information", [0.1, np.nan, 0.3, 0.2], [2, 3, 0, 1]),
    ],
)
def test_the_most_uncertain_come_first_and_missing_values_last(name, column, values, order):
    assert indices(query(name, table(**{column: values}), 4)) == order


def test_least_confidence_is_one_minus_the_mean_probability():
    utilities = query("least_confidence", table(mean_max_probability=[0.75, 0.5]), 1).utilities
    assert utilities.iloc[0].tolist() == [0.25, 0.5]


def voxel_statistics(p: np.ndarray) -> tuple[float, float]:
    """Mean entropy (nats) and number of foreground voxels of probabilities (C, N), straight from the definitions."""
    clipped = np.clip(p, 1e-10, 1)
    return float(-(clipped * np.log(clipped)).sum(axis=0).mean()), float((p.argmax(axis=0) != 0).sum())


def test_mmacts_from_voxels_to_the_pick():
    maps = [np.array([0.5, 0.1, 0.0, 0.8]), np.array([0.6, 0.6, 0.9, 0.9]), np.array([0.01, 0.0, 0.0, 0.99])]
    statistics = [voxel_statistics(np.stack([1 - f, f])) for f in maps]
    assert statistics[0][0] == pytest.approx(0.37965814, abs=1e-8)  # the golden value of its entropy
    distance = np.array([[0.0, 1.0, 5.0], [1.0, 0.0, 5.0], [5.0, 5.0, 0.0]])
    rho = (distance < 2.0).mean(axis=1)  # the case itself counts
    u, a = map(np.array, zip(*statistics, strict=True))
    selection = query("mmacts", table(mean_entropy=u, foreground_voxels=a, density=rho), 3)
    assert a.tolist() == [1.0, 4.0, 1.0]
    assert selection.utilities.iloc[0].to_numpy() == pytest.approx(u * a * rho)
    assert indices(selection) == [1, 0, 2]
    assert list(selection.components.columns) == ["u", "a", "informativeness", "rho"]
    assert selection.components["informativeness"].to_numpy() == pytest.approx(u * a)


@given(st.lists(st.tuples(*[st.floats(0, 1e6)] * 3), min_size=2, max_size=8), st.floats(0.001, 1000))
@settings(max_examples=50, deadline=None)
def test_mmacts_does_not_depend_on_the_unit_of_volume(rows, unit):
    u, a, rho = np.array(rows).T
    picks = query("mmacts", table(mean_entropy=u, foreground_voxels=np.round(a), density=rho), 1).picks
    scaled = query(
        "mmacts", table(mean_entropy=u, foreground_voxels=np.round(a) * 2.0 ** round(np.log2(unit)), density=rho), 1
    )
    assert picks == scaled.picks


def test_each_factor_of_mmacts_can_be_left_out():
    columns = {"mean_entropy": [0.1, 0.2, 0.3], "foreground_voxels": [5.0, 9.0, 1.0], "density": [1.0, 0.1, 0.3]}
    values = {"u": columns["mean_entropy"], "a": columns["foreground_voxels"], "rho": columns["density"]}
    for factors in (["u"], ["a"], ["rho"], ["a", "u"], ["rho", "a"], ["u", "rho"]):
        strategy = get_strategy("mmacts", factors=factors)
        assert ("density" in strategy.needs) == ("rho" in factors)
        left = {name: column for name, column in columns.items() if name != "density" or "rho" in factors}
        selection = strategy.query(table(**left), 1, np.random.default_rng(0))
        expected = np.prod([values[name] for name in factors], axis=0)
        assert selection.utilities.iloc[0].to_numpy() == pytest.approx(expected), factors
    for wrong in ([], ["v"]):
        with pytest.raises(ActiveError, match="choose some of u, a, rho"):
            get_strategy("mmacts", factors=wrong)


def test_mmacts_one_off_is_the_top_of_one_ranking():
    pool = make_pool()
    one_off = query("mmacts", pool, 5).picks
    sequential, left = [], pool
    for _ in range(5):
        pick = query("mmacts", left, 1).picks[0]
        sequential.append(pick)
        left = left.moved_to_labelled(left.scores.index == pick)
    assert tuple(sequential) == one_off  # the scores stay what they are: no training in between


def test_mmacts_puts_empty_predictions_last_but_can_pick_them():
    pool = table(mean_entropy=[0.5, 0.1, 0.4], foreground_voxels=[0, 1, 0], density=[1, 0.1, 1])
    assert indices(query("mmacts", pool, 3)) == [1, 0, 2]


def test_cup_takes_the_largest_of_the_twice_as_many_most_uncertain():
    pool = table(mean_entropy=[0.9, 0.8, 0.7, 0.6, 0.1], foreground_voxels=[5, 50, 10, 20, 1000])
    assert indices(query("cup", pool, 2)) == [1, 3]  # the largest case is too certain to be kept
    assert indices(query("cup", pool, 1)) == [1]
    assert indices(query("cup", pool, 2, factor=1)) == [1, 0]


def test_cup_keeps_what_was_kept_ahead_of_the_rest():
    utilities = query("cup", make_pool(), 4).utilities.iloc[0]
    kept = query("cup", make_pool(), 4).components["kept"].astype(bool)
    assert kept.sum() == 8
    assert utilities[kept].min() >= 0 > utilities[~kept].max()


def test_stdr_takes_half_farthest_and_half_nearest_by_brute_force():
    pool = make_pool(n=20)
    z, points = pool.sorted().arrays["embedding"], pool.source_summary["centroids"]
    distance = (cdist(z, points, "sqeuclidean") / z.shape[1]).min(axis=1)
    cases = np.array(sorted(pool.cases))
    selection = query("stdr", pool, 5)
    assert selection.picks[:3] == tuple(cases[np.argsort(-distance)[:3]])
    assert selection.picks[3:] == tuple(cases[np.argsort(distance)[:2]])
    assert selection.components["source_distance"].to_numpy() == pytest.approx(distance)


def test_stdr_without_a_summary_is_measured_from_the_surest_cases_and_says_so():
    z = np.array([[0.0], [0.1], [0.2], [5.0], [9.0]])
    pool = from_embedding(z, mean_entropy=[0.1, 0.1, 0.1, 0.9, 0.9])
    selection = query("stdr", pool, 2, anchors=1, anchor_fraction=0.6)
    assert indices(selection) == [4, 1]
    assert "surest" in selection.notes[0]


def test_stdr_refuses_a_summary_of_another_width():
    pool = dataclasses.replace(make_pool(), source_summary={"centroids": np.ones((2, 9))})
    with pytest.raises(ActiveError, match="width 6"):
        query("stdr", pool, 2)


def test_the_class_weighted_feature_is_the_mean_over_the_predicted_classes():
    class_mean = np.array([[[1.0, 1.0], [3.0, 5.0], [0.0, 0.0]]])
    pool = ScoredPool(
        pd.DataFrame(index=["a"]),
        {"embedding": np.zeros((1, 2)), "class_mean": class_mean, "class_volume": np.array([[900, 10, 0]])},
    )
    assert class_weighted_feature(pool).tolist() == [[2.0, 3.0]]
    without_volume = dataclasses.replace(pool, arrays={k: v for k, v in pool.arrays.items() if k != "class_volume"})
    assert class_weighted_feature(without_volume).tolist() == [[2.0, 3.0]]
