from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunet_active.scoring.member_agreement import Agreement, dice_of_pairs, pairwise_dice


def logits_of(labels: torch.Tensor, classes: int = 3) -> torch.Tensor:
    return torch.nn.functional.one_hot(labels, classes).movedim(-1, 0).half() * 5


def agreement(members: list[torch.Tensor], regions: bool = False, pieces: int = 3) -> np.ndarray:
    found = Agreement(regions)
    for slabs in zip(*[torch.tensor_split(member, pieces, dim=1) for member in members], strict=True):
        found.add(slabs)
    return found.shared()


def test_three_members_by_hand():
    one = torch.tensor([0, 1, 1, 1, 1, 2]).reshape(6, 1, 1)
    other = torch.tensor([0, 0, 0, 1, 1, 2]).reshape(6, 1, 1)
    third = torch.tensor([0, 0, 0, 0, 1, 0]).reshape(6, 1, 1)
    found = pairwise_dice(agreement([logits_of(m) for m in (one, other, third)]))
    assert found == pytest.approx([(4 / 6 + 2 / 5 + 2 / 3) / 3, (1 + 0 + 0) / 3])


def test_a_class_that_nobody_predicts_counts_as_agreement_and_one_that_a_single_member_predicts_does_not():
    empty, full = torch.zeros(2, 2, 2, dtype=torch.long), torch.ones(2, 2, 2, dtype=torch.long)
    assert pairwise_dice(agreement([logits_of(empty), logits_of(empty)], pieces=1)).tolist() == [1, 1]
    assert pairwise_dice(agreement([logits_of(empty), logits_of(full)], pieces=1)).tolist() == [0, 1]


def test_it_equals_whole_label_maps_however_the_slabs_are_cut():
    torch.manual_seed(0)
    members = [torch.randn(4, 7, 5, 6) for _ in range(4)]
    maps = [m.argmax(0) for m in members]
    expected = np.zeros((4, 4, 3))
    for i, one in enumerate(maps):
        for j, other in enumerate(maps):
            for c in (1, 2, 3):
                a, b = one == c, other == c
                expected[i, j, c - 1] = 2 * float((a & b).sum()) / float(a.sum() + b.sum())
    for pieces in (1, 3, 7):
        assert dice_of_pairs(agreement(members, pieces=pieces)) == pytest.approx(expected)


def test_every_region_is_a_class_and_may_overlap_others():
    one = torch.full((2, 1, 1, 4), -1.0)
    other = one.clone()
    one[0], one[1, ..., :2] = 1, 1
    other[0, ..., :3], other[1, ..., 1:3] = 1, 1
    assert pairwise_dice(agreement([one, other], regions=True, pieces=1)) == pytest.approx([6 / 7, 0.5])


def test_nobody_contradicts_a_single_member_and_no_member_is_an_error():
    assert pairwise_dice(agreement([torch.randn(3, 4, 5, 6)])).tolist() == [1, 1]
    with pytest.raises(ValueError, match="a member"):
        Agreement().add([])
    with pytest.raises(ValueError, match="a member"):
        Agreement().shared()
