from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nnunet_active.annotation.uncertainty import STEP_NATS, entropy_map
from nnunet_active.scoring.statistics import score_logits
from nnunet_active.scoring.temperature import tempered

LOGITS = torch.randn(4, 5, 6, 7, generator=torch.Generator().manual_seed(0)) * 4


def test_a_temperature_makes_doubt_grow():
    assert np.array_equal(entropy_map(LOGITS, temperature=2.0), entropy_map(tempered(LOGITS, 2.0)))
    assert np.array_equal(entropy_map(LOGITS, True, 0.5), entropy_map(tempered(LOGITS, 0.5, True), True))
    assert entropy_map(LOGITS, temperature=2.0).mean() > 1.2 * entropy_map(LOGITS).mean()


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_equal_logits_have_the_entropy_of_a_fair_die(classes):
    assert np.allclose(entropy_map(torch.zeros(classes, 2, 2, 2)), math.log(classes), atol=STEP_NATS)


def test_a_coin_toss_in_each_region_adds_up():
    assert np.allclose(entropy_map(torch.zeros(3, 2, 2, 2), regions=True), 3 * math.log(2), atol=STEP_NATS)


@pytest.mark.parametrize("regions", [False, True])
def test_its_mean_is_the_mean_entropy_of_the_scores(regions):
    found = entropy_map(LOGITS, regions)
    assert found.shape == (5, 6, 7) and found.dtype == np.float32
    expected = score_logits(LOGITS, 1.0, regions).scalars["mean_entropy"]
    assert float(found.mean(dtype=np.float64)) == pytest.approx(expected, abs=STEP_NATS / 2)


def test_half_precision_and_slabs_make_no_difference(monkeypatch):
    whole = entropy_map(LOGITS.half())
    monkeypatch.setattr("nnunet_active.annotation.uncertainty.SLAB_VOXELS", 11)
    assert np.array_equal(entropy_map(LOGITS.half()), whole)


@pytest.mark.parametrize("regions", [False, True])
def test_certain_logits_give_exactly_zero_and_broken_ones_stay_broken(regions):
    logits = torch.full((2, 1, 1, 2), -60.0)
    logits[0, ..., 0] = 60
    assert entropy_map(logits, regions)[0, 0, 0] == 0
    logits[0, 0, 0, 1] = float("nan")
    assert np.isnan(entropy_map(logits, regions)[0, 0, 1])
