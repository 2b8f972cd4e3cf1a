from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunet_active.scoring.collapse import collapsed, predicted_volumes, volumes_and_confidence


@pytest.mark.parametrize("heads", [2, 3, 5])
def test_volumes_and_confidence_are_those_of_the_formula(heads):
    logits = torch.randn((heads, 6, 7, 5), generator=torch.Generator().manual_seed(heads)).half()
    p = logits.double().softmax(0)
    mask = torch.nn.functional.one_hot(logits.argmax(0), heads).movedim(-1, 0)
    volume, confidence = volumes_and_confidence(logits)
    space = (1, 2, 3)
    assert volume.tolist() == predicted_volumes(logits).tolist() == mask.sum(space).tolist()
    assert confidence == pytest.approx((2 * (p * mask).sum(space) / (p.sum(space) + mask.sum(space))).numpy(), rel=1e-5)


def test_of_regions_each_head_is_a_mask_of_its_own():
    logits = torch.randn((2, 4, 5, 6), generator=torch.Generator().manual_seed(1))
    p, mask = logits.double().sigmoid(), logits > 0
    volume, confidence = volumes_and_confidence(logits, regions=True)
    assert volume.tolist() == predicted_volumes(logits, regions=True).tolist() == mask.sum((1, 2, 3)).tolist()
    expected = 2 * (p * mask).sum((1, 2, 3)) / (p.sum((1, 2, 3)) + mask.sum((1, 2, 3)))
    assert confidence == pytest.approx(expected.numpy(), rel=1e-5)


def test_a_class_that_is_not_predicted_has_no_confidence():
    logits = torch.tensor([3.0, 0.0, -50.0])[:, None, None, None].expand(3, 2, 2, 2)
    volume, confidence = volumes_and_confidence(logits)
    assert volume.tolist() == [8, 0, 0] and confidence[1:].tolist() == [0, 0] and confidence[0] > 0.9


def test_a_class_collapses_where_it_lost_more_than_half_and_the_source_was_sure():
    volume, before = np.array([49, 50, 0, 0, 200]), np.array([100, 100, 100, 0, 100])
    assert collapsed(volume, before, np.array([0.9, 0.9, 0.8, 0.9, 0.9])).tolist() == [True, False, False, False, False]
