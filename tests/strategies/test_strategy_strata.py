"""strata: typical, plausible cases drawn at random, one of a patient, from the parts without a label."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from strategy_pools import from_embedding, indices

from nnunet_active.strategies import get_strategy
from nnunet_active.strategies.vectors import unit_rows
from nnunet_active.util.errors import ActiveError


def query(pool, n, seed=0, **options):
    return get_strategy("strata", **options).query(pool, n, np.random.default_rng(seed))


def three_clouds(sizes=(12, 9, 6), volume=100.0, labelled=None, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.eye(len(sizes), 5) * 10
    z = np.concatenate([centre + rng.normal(size=(n, 5)) for centre, n in zip(centres, sizes, strict=True)])
    return from_embedding(z, labelled, foreground_voxels=np.broadcast_to(volume, len(z)))


def test_each_label_is_of_another_cluster_the_largest_first():
    selection = query(three_clouds(), 3)
    cloud = [0] * 12 + [1] * 9 + [2] * 6
    assert [cloud[i] for i in indices(selection)] == [0, 1, 2]
    assert selection.components.loc[list(selection.picks), "cluster_size"].tolist() == [12, 9, 6]


def test_clusters_with_a_label_come_last():
    pool = three_clouds(labelled=np.eye(2, 5) * 10)
    assert indices(query(pool, 1))[0] >= 21


def test_the_recorded_probability_is_the_formula_and_how_often_a_case_is_drawn():
    pool = three_clouds(sizes=(10,))
    z = unit_rows(pool.embedding())
    apart = np.sort(np.linalg.norm(z[:, None] - z[None], axis=2), axis=1)[:, 1:6]
    weight = (1 / apart.mean(axis=1)) ** 4
    expected = 0.9 * weight / weight.sum() + 0.01
    assert query(pool, 1).components["probability"].to_numpy() == pytest.approx(expected)
    drawn = Counter(indices(query(pool, 1, seed))[0] for seed in range(1500))
    assert [drawn[i] / 1500 for i in range(10)] == pytest.approx(expected, abs=0.04)


def test_a_later_pick_has_the_probability_of_its_own_step():
    pool = three_clouds(sizes=(10, 9))
    selection = query(pool, 2)
    second = selection.picks[1]
    only = query(pool, 2).components["probability"]
    assert 0.1 / 9 < only[second] < 1
    assert only[only.index != second].sum() == pytest.approx(1)


def test_an_implausible_prediction_has_only_the_share_of_chance():
    volume = np.full(20, 100.0)
    volume[3], volume[7] = 0, 10_000
    components = query(three_clouds(sizes=(20,), volume=volume), 1).components
    assert components["plausible"].tolist() == [float(i not in (3, 7)) for i in range(20)]
    assert components["probability"].iloc[[3, 7]].tolist() == pytest.approx([0.1 / 20] * 2)


def test_typicality_is_of_the_predicted_classes_where_these_are_known():
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(12, 3, 4)) + 5
    mean[4, 1:] = -5
    pool = from_embedding(rng.normal(size=(12, 5)), foreground_voxels=np.full(12, 100.0))
    volume = np.tile([900, 60, 40], (12, 1))
    seen = type(pool)(pool.scores, {**pool.arrays, "class_mean": mean, "class_volume": volume})
    first, told = query(seen, 1), query(pool, 1)
    assert first.components["probability"].idxmin() == "c004" and first.notes == ()
    assert told.components["probability"].idxmin() != "c004" and "whole image" in told.notes[0]


def test_strata_takes_regions_as_it_takes_the_same_classes_after_a_background():
    rng = np.random.default_rng(0)
    mean, volume = rng.normal(size=(12, 3, 4)) + 5, rng.integers(0, 3, size=(12, 3)) * 40
    pool = from_embedding(rng.normal(size=(12, 5)), foreground_voxels=volume[:, 1:].max(1))
    for heads in (2, 3):
        both = {"class_mean": mean[:, :heads], "class_volume": volume[:, :heads]}
        classes = dataclasses.replace(pool, arrays=pool.arrays | both)
        regions = dataclasses.replace(
            pool, arrays=pool.arrays | {name: values[:, 1:] for name, values in both.items()}, first_class=0
        )
        pd.testing.assert_frame_equal(query(regions, 3).components, query(classes, 3).components)


def test_with_groups_one_scan_of_a_patient_is_asked_for_and_none_of_a_patient_with_a_label():
    pool = three_clouds(sizes=(8, 8))
    names = [f"p{i // 2}_{i % 2}" for i in range(16)]
    pool = from_embedding(pool.embedding(), pool.embedding()[:1], foreground_voxels=np.full(16, 100.0))
    pool = type(pool)(pool.scores.set_axis(names), pool.arrays, ("p0_9",), pool.labelled_arrays)
    pool = dataclasses.replace(pool, patients={case: case.split("_")[0] for case in [*names, "p0_9"]})
    selection = query(pool, 7)
    assert {pick.split("_")[0] for pick in selection.picks} == {f"p{i}" for i in range(1, 8)}
    assert len(query(pool, 16).picks) == 16, "the other scans follow once all patients had their turn"


def test_from_the_third_round_on_the_difficult_ones_of_a_cluster_are_drawn_more_often():
    pool = three_clouds(sizes=(10,), labelled=[[-10, 0, 0, 0, 0]] * 3)
    confidence = np.array([0.9, 0.8, 0.8, 0.7, 0.6, 0.5, 0.95, np.nan, 0.3, 0.2])
    pool = dataclasses.replace(pool, scores=pool.scores.assign(soft_dice_confidence=confidence))
    early, late = (query(dataclasses.replace(pool, answered=rounds), 1).components for rounds in (1, 2))
    own = early["cluster"] == early["cluster"].loc[early["probability"] > 0].iloc[0]
    assert "doubt" not in early and own.sum() >= 2
    z = unit_rows(pool.embedding())[own]
    k = min(10, len(z) // 2)
    typical = 1 / np.sort(np.linalg.norm(z[:, None] - z[None], axis=2), axis=1)[:, 1 : k + 1].mean(axis=1)
    doubt = np.nan_to_num(1 - confidence, nan=1.0)
    rank = np.array([(doubt[own] < one).sum() + ((doubt[own] == one).sum() + 1) / 2 for one in doubt[own]]) / len(z)
    for components, r in ((early, 0.0), (late, 0.3)):
        weight = (typical ** (1 - r) * rank**r) ** 4
        expected = 0.9 * weight / weight.sum() + 0.1 / len(z)
        assert components["probability"][own].to_numpy() == pytest.approx(expected)
    assert late["doubt"].to_numpy() == pytest.approx(doubt)


def test_without_a_confidence_typicality_alone_decides_in_every_round():
    pool = three_clouds(labelled=np.eye(2, 5) * 10)
    pd.testing.assert_frame_equal(query(dataclasses.replace(pool, answered=5), 2).components, query(pool, 2).components)


@pytest.mark.parametrize("options", [{"uniform": 0}, {"power": -1}, {"neighbours": 0}])
def test_an_option_that_makes_no_sense_is_one_sentence(options):
    with pytest.raises(ActiveError, match=r"^strata: ") as caught:
        get_strategy("strata", **options)
    assert "\n" not in str(caught.value)
