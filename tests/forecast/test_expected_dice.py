from __future__ import annotations

import numpy as np
import pytest

from nnunet_active.forecast.expected_dice import (
    EXPONENT,
    calibrated,
    estimate_dice,
    mean_of_classes,
    quality,
    usual_classes,
)


def test_the_estimate_and_its_interval_by_hand():
    found = estimate_dice([0.9, 0.7], [0.8, 0.9, 0.7], [0.7, 0.6, 0.5])
    r = np.array([0, -0.1, -0.3, -0.2])
    half = 2.919986 * r.std(ddof=1) * np.sqrt(1 / 4 + 1 / 2)
    assert found.mean == pytest.approx(0.8 - 0.6 / 4)
    assert (found.low, found.high) == pytest.approx((0.65 - half, min(1, 0.65 + half)), abs=1e-6)
    assert found.labels == 3 and found.calibrated and found.uncalibrated == pytest.approx(0.8)


def test_where_f_says_nothing_the_labels_alone_count():
    found = estimate_dice([1, 1], [1, 1, 1], [0.7, 0.6, 0.5], prior=0)
    half = 2.919986 * 0.1 * np.sqrt(1 / 3 + 1 / 2)
    assert (found.low, found.mean, found.high) == pytest.approx((0.6 - half, 0.6, 0.6 + half), abs=1e-6)


@pytest.mark.parametrize("labels", [0, 1, 2])
def test_below_three_labels_there_is_no_interval_and_nothing_is_calibrated(labels):
    found = estimate_dice([0.9, 0.7], [0.8] * labels, [0.1] * labels)
    assert found.mean == found.uncalibrated == pytest.approx(0.8)
    assert np.isnan(found.low) and np.isnan(found.high) and not found.calibrated
    assert calibrated([0.9, 0.7], found).tolist() == [0.9, 0.7]


def test_the_interval_stays_between_0_and_1_and_what_is_not_known_does_not_count():
    found = estimate_dice([0.95, np.nan], [0.9, 0.9, 0.9, np.nan, 0.5], [1.0, 0.2, 1.0, 0.1, np.nan])
    assert found.labels == 3 and found.uncalibrated == pytest.approx(0.95)
    assert 0 <= found.low <= found.mean <= found.high == 1
    empty = estimate_dice([], [0.9] * 3, [0.8] * 3)
    assert np.isnan(empty.mean) and np.isnan(empty.low)


@pytest.mark.parametrize("shift", [0, -0.05, -0.1, -0.15])
def test_intervals_of_random_samples_cover_the_pools_mean_as_often_as_they_say(shift):
    rng, hits = np.random.default_rng(0), 0
    for _ in range(400):
        f = rng.uniform(0.5, 1, 40)
        dice = f + shift + rng.normal(0, 0.05, 40)
        found = estimate_dice(f[5:], f[:5], dice[:5])
        hits += found.low <= dice[5:].mean() <= found.high
    assert 0.88 < hits / 400 < 0.96


def test_a_case_moves_towards_the_estimate_the_more_the_more_labels_there_are():
    pool, labelled = np.array([0.9, 0.7]), np.array([0.8, 0.9, 0.7])
    found = estimate_dice(pool, labelled, labelled - 0.2)
    assert calibrated(pool, found) == pytest.approx(pool - 0.6 / 4 * 3 / 5)
    many = estimate_dice(pool, np.tile(labelled, 10), np.tile(labelled, 10) - 0.2)
    assert calibrated(pool, many) == pytest.approx(pool - 6 / 31 * 30 / 32)
    poor = estimate_dice(pool, labelled, labelled - 0.7)
    assert calibrated([0.05, 0.9], poor).min() == 0


def test_a_usual_class_that_is_not_predicted_counts_as_lost_and_a_rare_one_is_not_expected():
    volume = np.array([[10, 5]] + [[10, 0]] * 3 + [[0, 0]])
    usual = usual_classes(volume)
    assert usual.tolist() == [True, False]
    found = quality(np.full((5, 2), 0.9), np.where(volume > 0, 0.8, 0), volume, usual)
    assert found[0] == pytest.approx([0.72**EXPONENT] * 2)
    assert found[1, 0] == pytest.approx(0.72**EXPONENT) and np.isnan(found[1, 1])
    assert found[4, 0] == 0
    assert mean_of_classes(found) == pytest.approx([0.72**EXPONENT] * 4 + [0])
    assert np.isnan(mean_of_classes(np.full((1, 2), np.nan))[0])


def test_cases_in_which_nothing_is_predicted_are_expected_to_fail_however_many_they_are():
    volume = np.array([[500]] * 7 + [[0]] * 3)
    usual = usual_classes(volume)
    assert usual.tolist() == [True]
    f = mean_of_classes(quality(np.where(volume > 0, 0.9, 1), np.where(volume > 0, 0.9, 0), volume, usual))
    assert f == pytest.approx([0.81**EXPONENT] * 7 + [0] * 3)
    found = estimate_dice(f, f[5:], [0.8, 0.8, 0, 0, 0])
    assert found.labels == 5 and found.mean == pytest.approx(f.mean() + 2 * (0.8 - f[0]) / 6)


@pytest.mark.parametrize("shown", [[], [[9, 0], [0, 9]]])
def test_where_no_class_is_usual_every_class_counts_in_an_empty_case(shown):
    volume = np.array([*shown, [0, 0]])
    usual = usual_classes(volume)
    assert not usual.any()
    assert quality(np.ones(volume.shape), volume > 0, volume, usual)[-1].tolist() == [0, 0]
    assert usual_classes(np.zeros((0, 2))).tolist() == [False, False]


def test_a_class_that_the_pool_nowhere_shows_is_not_calibrated_by_labels_that_do():
    found = estimate_dice([np.nan] * 6, [0.8] * 3, [0.7] * 3)
    assert found.labels == 3 and np.isnan(found.mean) and not found.calibrated
    assert np.isnan(calibrated([np.nan] * 6, found)).all()
