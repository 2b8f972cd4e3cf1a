from __future__ import annotations

import math

import pytest
import torch

from nnunet_active.scoring.ensemble import Disagreement, mean_logits


def mutual_information(members: list[torch.Tensor], regions: bool = False) -> float:
    both = Disagreement(regions)
    for rows in zip(*[torch.tensor_split(member, 2, dim=1) for member in members], strict=True):  # slab by slab
        both.add(rows)
    return both.mutual_information()


def logits_of(foreground: float) -> torch.Tensor:
    """Two classes, one voxel."""
    return torch.tensor([math.log(1 - foreground), math.log(foreground)]).reshape(2, 1, 1, 1)


def entropy(p: float) -> float:
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


def test_two_members_by_hand():
    expected = entropy(0.5) - (entropy(0.9) + entropy(0.1)) / 2
    assert mutual_information([logits_of(0.9), logits_of(0.1)]) == pytest.approx(expected, abs=1e-6)


def test_members_that_agree_share_no_information_however_uncertain_they_are():
    member = torch.randn(3, 4, 5, 6)
    assert mutual_information([member] * 3) == pytest.approx(0, abs=1e-6)


def test_members_that_are_certain_and_contradict_each_other_reach_ln_2():
    assert mutual_information([logits_of(1 - 1e-9), logits_of(1e-9)]) == pytest.approx(math.log(2), abs=1e-5)


def test_it_equals_a_plain_computation_and_does_not_depend_on_the_order():
    members = [torch.randn(3, 4, 5, 6) for _ in range(3)]
    p = torch.stack([m.softmax(0) for m in members]).double()
    h = -(p * p.log()).sum(1).mean()
    mean = p.mean(0)
    expected = float(-(mean * mean.log()).sum(0).mean() - h)
    assert mutual_information(members) == pytest.approx(expected, rel=1e-4)
    assert mutual_information(members[::-1]) == pytest.approx(expected, rel=1e-4)


def test_regions_add_the_entropies_of_their_heads():
    one, other = torch.full((2, 1, 1, 1), 2.0), torch.full((2, 1, 1, 1), -2.0)
    p = 1 / (1 + math.exp(-2.0))
    assert mutual_information([one, other], regions=True) == pytest.approx(2 * (entropy(0.5) - entropy(p)), abs=1e-6)


def test_the_members_are_not_changed_and_none_is_an_error():
    member = torch.randn(2, 2, 2, 2)
    before = member.clone()
    mutual_information([member], regions=True)
    assert torch.equal(member, before)
    with pytest.raises(ValueError, match="at least one member"):
        mutual_information([])
    with pytest.raises(ValueError, match="NaN"):
        mutual_information([torch.full((2, 1, 1, 1), float("nan"))])


@pytest.mark.parametrize("regions", [False, True])
def test_the_logits_of_the_mean_give_back_the_mean_of_the_probabilities(regions):
    generator = torch.Generator().manual_seed(0)
    members = [(4 * torch.randn(3, 6, 5, 7, generator=generator)).half() for _ in range(3)]
    logits = mean_logits(members, regions)
    turn = (lambda x: x.float().sigmoid()) if regions else (lambda x: x.float().softmax(0))
    expected = torch.stack([turn(member) for member in members]).mean(0)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(turn(logits), expected, rtol=1e-5, atol=1e-6)
    if not regions:
        assert torch.equal(logits.argmax(0), expected.argmax(0))


@pytest.mark.parametrize("regions", [False, True])
def test_members_that_are_as_sure_as_can_be_give_finite_logits(regions):
    member = torch.tensor([65504.0, -65504.0]).reshape(2, 1, 1, 1).half()
    logits = mean_logits([member] * 2, regions)
    assert torch.isfinite(logits).all() and logits[0] > logits[1]


def test_a_mean_of_nobody_is_refused():
    for ask in (lambda: mean_logits([]), Disagreement().mutual_information, lambda: Disagreement().add([])):
        with pytest.raises(ValueError, match="at least one"):
            ask()
