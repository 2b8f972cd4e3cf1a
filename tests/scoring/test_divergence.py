from __future__ import annotations

import math

import pytest
import torch

from nnunet_active.scoring.divergence import Divergence


def mean_divergence(source: torch.Tensor, current: torch.Tensor, regions: bool = False, slabs: int = 1) -> float:
    gap = Divergence(regions)
    for p, q in zip(torch.tensor_split(source, slabs, 1), torch.tensor_split(current, slabs, 1), strict=True):
        gap.add(p, q)
    return gap.mean()


def voxel(*probabilities: float) -> torch.Tensor:
    return torch.tensor([math.log(p) for p in probabilities]).reshape(-1, 1, 1, 1)


def test_one_voxel_by_hand():
    expected = 0.7 * math.log(0.7 / 0.5) + 0.2 * math.log(0.2 / 0.1) + 0.1 * math.log(0.1 / 0.4)
    assert mean_divergence(voxel(0.7, 0.2, 0.1), voxel(0.5, 0.1, 0.4)) == pytest.approx(expected, abs=1e-6)


def test_regions_add_up_the_heads_binary_divergences():
    p, q = (0.9, 0.2), (0.6, 0.3)
    logit = [torch.tensor([math.log(v / (1 - v)) for v in values]).reshape(2, 1, 1, 1) for values in (p, q)]
    expected = sum(a * math.log(a / b) + (1 - a) * math.log((1 - a) / (1 - b)) for a, b in zip(p, q, strict=True))
    assert mean_divergence(*logit, regions=True) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_many_slabs_equal_a_plain_computation(regions, dtype):
    p, q = (torch.randn(3, 7, 6, 5).to(dtype) for _ in range(2))
    if regions:
        a, b = p.double().sigmoid(), q.double().sigmoid()
        expected = (a * (a / b).log() + (1 - a) * ((1 - a) / (1 - b)).log()).sum(0).mean()
    else:
        a, b = p.double().softmax(0), q.double().softmax(0)
        expected = (a * (a / b).log()).sum(0).mean()
    assert mean_divergence(p, q, regions, slabs=4) == pytest.approx(float(expected), rel=1e-5)


def test_equal_predictions_have_none_and_it_is_not_symmetric():
    p, q = torch.randn(2, 4, 4, 4), 3 * torch.randn(2, 4, 4, 4)
    assert mean_divergence(p, p) == pytest.approx(0, abs=1e-7) and mean_divergence(p, p) >= 0
    assert mean_divergence(p, q) != pytest.approx(mean_divergence(q, p), rel=1e-3)


def test_certain_and_contrary_predictions_stay_finite():
    p = torch.tensor([65504.0, -65504.0]).reshape(2, 1, 1, 1).half()
    assert math.isfinite(mean_divergence(p, -p)) and mean_divergence(p, -p) > 1000
    assert math.isfinite(mean_divergence(p, -p, regions=True))


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="NaN or infinite"):
        mean_divergence(torch.full((2, 1, 1, 1), math.nan), torch.zeros(2, 1, 1, 1))
    with pytest.raises(ValueError, match="shapes"):
        mean_divergence(torch.zeros(2, 1, 1, 1), torch.zeros(3, 1, 1, 1))
    with pytest.raises(ValueError, match="no voxel"):
        Divergence().mean()
