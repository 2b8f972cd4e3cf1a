from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nnunet_active.scoring.modality import elect_dominant_modality, keep_one_channel, mean_class_dice

SHAPE = (4, 5, 6)


def image(channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(channels, *SHAPE)).astype(np.float32)


def reads(*weights: float):
    """A "network" that sees a weighted sum of the channels: three classes by threshold."""

    def predict(x: np.ndarray) -> np.ndarray:
        seen = np.tensordot(np.array(weights), x, 1)
        return np.digitize(seen, [0.3, 1.0]).astype(np.int16)

    return predict


def test_one_channel_alone_leaves_the_image_as_it_was():
    x = image()
    before = x.copy()
    alone = keep_one_channel(x, 1)
    assert np.array_equal(alone[1], x[1]) and not alone[[0, 2]].any()
    copied = keep_one_channel(x, 1, "replicate")
    assert all(np.array_equal(copied[m], x[1]) for m in range(3))
    for changed in (alone, copied):
        assert changed.dtype == np.float32 and changed.shape == x.shape
        changed[:] = 9
    assert np.array_equal(x, before)
    with pytest.raises(ValueError, match="'zero' or 'replicate', not 'mean'"):
        keep_one_channel(x, 0, "mean")


def test_the_channel_that_the_network_listens_to_is_elected():
    for weights, expected in (((1, 0.1, 0.1), 0), ((0.1, 1, 0.1), 1), ((0.1, 0.1, 1), 2)):
        election = elect_dominant_modality(reads(*weights), image())
        assert election.channel == expected == int(np.argmax(election.dice)) and election.decided
        assert len(election.dice) == 3 and all(0 <= dice <= 1 for dice in election.dice)


def test_a_network_that_sees_one_channel_alone_agrees_with_itself_completely():
    election = elect_dominant_modality(reads(0, 1, 0), image())
    assert election.dice == (0.0, 1.0, 0.0) and election.channel == 1


def test_replicating_and_setting_to_zero_are_different_questions():
    x = image()
    sums = reads(1, 1, 1)
    zero, replicated = (elect_dominant_modality(sums, x, how).dice for how in ("zero", "replicate"))
    assert zero != replicated
    assert elect_dominant_modality(reads(0.5, 0.5), np.repeat(x[:1], 2, axis=0), "replicate").dice == (1.0, 1.0)


def test_ties_go_to_the_lower_channel():
    x = np.repeat(image(1), 3, axis=0)
    election = elect_dominant_modality(reads(0.5, 0.5, 0.5), x)
    assert len(set(election.dice)) == 1 and election.channel == 0


def test_an_empty_prediction_falls_back_to_the_channel_order_and_says_so():
    election = elect_dominant_modality(lambda x: np.zeros(SHAPE, np.int16), image())
    assert (election.channel, election.dice, election.decided) == (0, (0.0, 0.0, 0.0), False)
    regions = elect_dominant_modality(lambda x: np.zeros((2, *SHAPE), bool), image())
    assert (regions.channel, regions.decided) == (0, False)


def test_one_channel_needs_no_prediction():
    def fail(x: np.ndarray) -> np.ndarray:
        raise AssertionError

    election = elect_dominant_modality(fail, image(1))
    assert (election.channel, election.dice, election.decided) == (0, (1.0,), True)


def test_m_channels_cost_m_plus_one_predictions():
    calls = []

    def predict(x: np.ndarray) -> np.ndarray:
        calls.append(x.shape)
        return reads(1, 1, 1)(x)

    elect_dominant_modality(predict, image())
    assert calls == [(3, *SHAPE)] * 4


def test_dice_is_the_mean_over_the_classes_of_the_reference():
    reference = np.array([1, 1, 2, 0, 0])
    assert mean_class_dice(reference, reference) == 1
    assert mean_class_dice(np.array([1, 0, 3, 3, 0]), reference) == pytest.approx((2 * 1 / (1 + 2) + 0) / 2)
    assert mean_class_dice(np.zeros(5, int), reference) == 0
    assert mean_class_dice(reference, np.zeros(5, int)) == 0  # not NaN


def test_regions_may_overlap():
    reference = np.array([[1, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]], bool)
    prediction = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [1, 1, 1, 1]], bool)
    assert mean_class_dice(prediction, reference) == pytest.approx((4 / 5 + 2 / 3) / 2)


@given(arrays(np.int16, (12,), elements=st.integers(0, 3)), arrays(np.int16, (12,), elements=st.integers(0, 3)))
def test_class_maps_and_their_region_form_have_the_same_dice(prediction, reference):
    dice = mean_class_dice(prediction, reference)
    regions = [np.stack([x == c for c in (1, 2, 3)]) for x in (prediction, reference)]
    assert dice == pytest.approx(mean_class_dice(*regions)) and 0 <= dice <= 1
    assert mean_class_dice(reference, reference) == float(reference.any())


def test_a_channel_that_alone_gives_the_very_same_prediction_decides_nothing_about_the_others():
    """A source network of one channel: the others begin with zero weights."""
    election = elect_dominant_modality(reads(1, 0, 0), image())
    assert (election.channel, election.dice[0], election.decided) == (0, 1.0, False)
