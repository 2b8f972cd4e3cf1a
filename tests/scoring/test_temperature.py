from __future__ import annotations

import pytest
import torch

from nnunet_active.scoring.temperature import BOUNDS, SURE, doubtful, fit_temperature, mean_surprise, tempered


def drawn(temperature: float, seed: int = 0, n: int = 20_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits whose truth is drawn from their softmax at a temperature."""
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(3, n, generator=generator)
    truth = torch.multinomial(tempered(logits, temperature).softmax(0).T, 1, generator=generator)[:, 0]
    return logits, truth


def test_doubt_grows_by_the_temperature_and_what_is_sure_stays_sure():
    logits = torch.tensor([[2.0, 20.0, 4.0], [0.0, 0.0, 4.0], [-1.0, 5.0, 0.0]])
    found = tempered(logits, 2.0)
    assert found[0] - found[1:].amax(0) == pytest.approx([1.0, 15 - SURE / 2, 0.0], abs=1e-5)
    assert doubtful(logits).tolist() == [True, False, True]
    heads = tempered(torch.tensor([[3.0, -20.0]]), 2.0, regions=True)
    assert heads[0].tolist() == pytest.approx([1.5, -20 + SURE / 2], abs=1e-5)
    assert doubtful(torch.tensor([[9.0, -9.0], [9.0, 1.0]]), regions=True).tolist() == [False, True]


@pytest.mark.parametrize("regions", [False, True])
def test_no_label_changes_and_a_surer_voxel_stays_the_surer_one(regions):
    logits = 6 * torch.randn(3, 1000, generator=torch.Generator().manual_seed(0))
    found = tempered(logits, 5.0, regions)
    assert torch.equal(found > 0, logits > 0) and torch.equal(found.argmax(0), logits.argmax(0))
    margin, after = ((x.topk(2, 0).values[0] - x.topk(2, 0).values[1]) for x in (logits, found))
    if not regions:
        assert (after[margin.argsort()].diff() >= -1e-4).all()
    assert torch.equal(tempered(logits, 1.0, regions), logits)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_the_truth_was_drawn_at_is_found(temperature):
    samples = [drawn(temperature, seed) for seed in range(3)]
    assert fit_temperature(samples) == pytest.approx(temperature, rel=0.05)
    assert mean_surprise(samples, fit_temperature(samples)) <= mean_surprise(samples, 1.0) + 1e-6


def test_it_is_found_for_regions_as_well():
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(2, 20_000, generator=generator)
    truth = torch.rand(logits.shape, generator=generator) < torch.sigmoid(tempered(logits, 2, regions=True))
    assert fit_temperature([(logits, truth)], regions=True) == pytest.approx(2, rel=0.05)


def test_the_mean_by_hand_counts_every_case_alike():
    logits = torch.tensor([[0.0, 0.0], [2.0, 2.0]])
    one, other = (logits, torch.tensor([1, 1])), (logits[:, :1], torch.tensor([0]))
    p = torch.tensor([0.0, 1.0]).softmax(0)
    assert mean_surprise([one, other], 2.0) == pytest.approx(float(-(p[1].log() + p[0].log()) / 2), abs=1e-6)


def test_a_network_that_is_always_wrong_or_always_right_stays_within_the_bounds_and_nothing_is_1():
    logits, _ = drawn(1.0)
    assert fit_temperature([(logits, logits.argmin(0))]) == pytest.approx(BOUNDS[1], rel=0.05)
    assert fit_temperature([(logits, logits.argmax(0))]) == pytest.approx(BOUNDS[0], rel=0.05)
    assert fit_temperature([]) == fit_temperature([(logits[:, :0], torch.zeros(0, dtype=torch.long))]) == 1


def test_half_precision_logits_are_taken_as_they_are():
    logits, truth = drawn(2.0)
    assert fit_temperature([(logits.half(), truth)]) == pytest.approx(2, rel=0.05)
