"""What is known of each voxel, against the formulas in double precision."""

from __future__ import annotations

import pytest
import torch

from nnunet_active.scoring.voxels import Softmax, Voxels, regions, two_heads


def of(logits: torch.Tensor) -> Voxels:
    return two_heads(logits) if len(logits) == 2 else Softmax(len(logits), logits.device)(logits)


def random_logits(heads: int, n: int = 3000, scale: float = 4.0) -> torch.Tensor:
    return (scale * torch.randn(heads, n, generator=torch.Generator().manual_seed(heads))).half()


@pytest.mark.parametrize("piece", [1, 999, 2**17])
@pytest.mark.parametrize("heads", [2, 3, 40])
def test_a_softmax_gives_what_the_formulas_give(heads, piece, monkeypatch):
    monkeypatch.setattr("nnunet_active.scoring.voxels.PIECE", piece)
    logits = random_logits(heads, 300 if piece == 1 else 3000)
    p = logits.double().softmax(0)
    first, second = p.topk(2, 0).values
    found = of(logits)
    torch.testing.assert_close(found.entropy.double(), -(p * p.log()).sum(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.highest.double(), first, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found.margin.double(), first - second, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.weight.double(), 1 - p[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.mass, p.sum(1), rtol=1e-5, atol=1e-5)
    assert torch.equal(found.label, logits.argmax(0))


@pytest.mark.parametrize("heads", [2, 3, 40])
def test_the_weight_of_a_voxel_that_is_almost_certainly_background_has_no_rounding_error(heads):
    logits = torch.zeros(heads, 50)
    logits[0] = torch.linspace(15, 60, 50)
    p = logits.double().softmax(0)
    torch.testing.assert_close(of(logits).weight.double(), p[1:].sum(0), rtol=1e-5, atol=0)


def test_regions_give_what_the_formulas_give():
    logits = random_logits(3)
    p = logits.double().sigmoid()
    binary = -(p * p.log() + (1 - p) * torch.log1p(-p))
    found = regions(logits)
    torch.testing.assert_close(found.binary.double(), binary, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.entropy.double(), binary.sum(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.weight.double(), p.amax(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.mass, p.sum(1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.sure, (p * (logits > 0)).sum(1), rtol=1e-5, atol=1e-5)
    assert torch.equal(found.predicted, logits > 0) and torch.equal(found.label > 0, (logits > 0).any(0))


@pytest.mark.parametrize("heads", [2, 3, 40])
def test_of_heads_that_are_equally_high_the_first_is_predicted(heads):
    logits = random_logits(heads).round()  # half of the voxels have two highest heads
    ties = (logits == logits.amax(0)).sum(0) > 1
    assert ties.any()
    found = of(logits)
    assert torch.equal(found.label, logits.argmax(0))
    assert (found.margin[ties] == 0).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("heads", [2, 3, 40])
def test_a_bad_logit_shows_in_the_entropy_of_its_voxel_alone(heads, bad):
    logits = random_logits(heads)
    logits[-1, 7] = bad
    for found in (of(logits), regions(logits)):
        wrong = ~found.entropy.isfinite()
        assert wrong.nonzero().flatten().tolist() == [7]
        assert ((found.label >= 0) & (found.label < heads)).all()


@pytest.mark.parametrize("heads", [2, 3])
def test_the_largest_differences_of_half_precision_stay_exact(heads):
    logits = torch.full((heads, 1), -65504.0).half()
    logits[1] = 65504.0
    found = of(logits)
    assert found.entropy == 0 and found.highest == found.margin == found.weight == 1 and found.label == 1
