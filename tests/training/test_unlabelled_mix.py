"""Thresholds, guesses, boxes, views and targets in numbers that can be worked out by hand."""

from __future__ import annotations

import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

from nnunet_active.training.unlabelled_mix import (
    CEILING,
    ConfidenceCounts,
    at_scales,
    boxes,
    mixed_target,
    strong_view,
    sure_guess,
)

SHAPES = [(3, 2, 12, 16), (2, 1, 8, 12, 16)]


def logits_of(confidence: torch.Tensor, label: torch.Tensor, heads: int) -> torch.Tensor:
    """Logits (C, n) whose softmax gives ``label`` that confidence and shares out the rest."""
    p = ((1 - confidence) / (heads - 1)).repeat(heads, 1)
    p[label, torch.arange(len(label))] = confidence
    return p.log()


def test_a_threshold_is_the_60_percent_quantile_of_its_class_and_never_above_the_ceiling():
    faint = torch.linspace(0.4005, 0.5995, 200)
    sure = torch.full((100,), 0.999)
    counts = ConfidenceCounts(4, regions=False)
    counts.add(logits_of(faint[::2], torch.ones(100, dtype=torch.int64), 4))
    counts.add(logits_of(torch.cat([faint[1::2], sure]), torch.tensor([1] * 100 + [0] * 100), 4))
    thresholds = counts.thresholds()
    assert thresholds[0] == pytest.approx(CEILING)  # sure everywhere: 0.95 is enough
    assert float(thresholds[1]) == pytest.approx(0.4005 + 0.6 * 0.199, abs=0.002)
    assert thresholds[2:].tolist() == pytest.approx([CEILING] * 2)  # never guessed
    kept = sure_guess(logits_of(faint, torch.ones(200, dtype=torch.int64), 4).softmax(0)[None], thresholds)[1]
    assert 0.39 < kept.float().mean() < 0.42


def test_regions_have_a_threshold_outside_and_one_inside_each():
    p = torch.tensor([[0.6, 0.7, 0.8, 0.9, 0.1, 0.2], [0.01, 0.01, 0.01, 0.01, 0.01, 0.7]])
    counts = ConfidenceCounts(2, regions=True)
    counts.add(p.logit())
    thresholds = counts.thresholds()
    assert thresholds.shape == (2, 2)
    assert float(thresholds[1, 0]) == pytest.approx(0.8, abs=0.001)  # of 0.6, 0.7, 0.8, 0.9 inside the first region
    assert float(thresholds[0, 0]) == pytest.approx(0.9, abs=0.001)  # of 0.8, 0.9 outside
    assert float(thresholds[0, 1]) == pytest.approx(CEILING)
    thresholds = torch.tensor([[0.85, 0.9], [0.75, 0.6]])
    guess, sure = sure_guess(p[None], thresholds)
    assert guess[0].tolist() == [[True] * 4 + [False] * 2, [False] * 5 + [True]]
    assert sure[0, 0].tolist() == [False, False, True, True, True, False]  # the last one's first region is not sure


def test_a_guess_counts_from_the_threshold_of_its_own_class_on():
    p = torch.tensor([[[0.8, 0.9, 0.3, 0.45]], [[0.1, 0.05, 0.6, 0.5]], [[0.1, 0.05, 0.1, 0.05]]])[None]
    guess, sure = sure_guess(p, torch.tensor([0.85, 0.55, 0.95]))
    assert guess.tolist() == [[[[0, 0, 1, 1]]]] and sure.tolist() == [[[[False, True, True, False]]]]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_sample_has_one_whole_box_of_a_quarter_to_half_of_the_patch(shape):
    torch.manual_seed(0)
    seen = []
    for _ in range(40):
        for inside in boxes(shape)[:, 0]:
            where = inside.nonzero()
            lengths = where.amax(0) - where.amin(0) + 1
            assert int(inside.sum()) == int(lengths.prod())
            seen.append(float(inside.float().mean()))
    assert 0.15 < min(seen) < 0.3 and 0.45 < max(seen) < 0.6
    assert boxes(shape).shape == (shape[0], 1, *shape[2:])


def test_boxes_come_to_every_corner():
    torch.manual_seed(0)
    often = sum(boxes((1, 1, 8, 8))[0, 0].float() for _ in range(400))
    assert all(often[y, x] > 20 for y in (0, -1) for x in (0, -1))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_strong_view_changes_intensities_alone_and_is_finite(shape):
    torch.manual_seed(1)
    x = torch.randn(shape)
    x[0] = 0.25  # constant: no range for the gamma
    views = [strong_view(x) for _ in range(8)]
    assert all(view.shape == x.shape and bool(view.isfinite().all()) for view in views)
    assert any(not torch.equal(view, x) for view in views)
    # gamma, contrast and brightness keep the order of the voxels; noise is the only thing that does not, and it is small
    last = x[-1, 0].flatten()
    for view in views:
        assert torch.corrcoef(torch.stack([last, view[-1, 0].flatten()]))[0, 1] > 0.85
    x[1, :, 2:5] = 0
    assert bool((strong_view(x, keep_zeros=True)[1, :, 2:5] == 0).all())


def test_boxes_are_mixed_both_ways_and_labels_and_what_counts_alike():
    inside = torch.zeros(1, 1, 2, 4, dtype=torch.bool)
    inside[..., :2] = True
    labelled = torch.tensor([[[[1, 9, 1, 9], [2, 2, 2, 2]]]], dtype=torch.int16)  # 9: nobody looked here
    guess = torch.tensor([[[[0, 0, 0, 0], [1, 1, 1, 1]]]])
    sure = torch.tensor([[[[True, True, True, False], [False, True, True, False]]]])
    one = mixed_target(inside, labelled, guess, sure, 9)
    other = mixed_target(~inside, labelled, guess, sure, 9)
    assert one.tolist() == [[[[1, 9, 0, 9], [2, 2, 1, 9]]]]
    assert other.tolist() == [[[[0, 0, 1, 9], [9, 1, 2, 2]]]]
    assert one.dtype == labelled.dtype


@pytest.mark.parametrize("declared", [False, True])
def test_regions_are_mixed_the_same_way_with_a_channel_for_what_does_not_count(declared):
    inside = torch.tensor([[[[True, True, False, False]]]])
    regions = torch.tensor([[[[1, 0, 1, 0]], [[0, 0, 1, 0]]]], dtype=torch.int8)
    ignored = torch.tensor([[[[0, 1, 0, 1]]]], dtype=torch.int8)
    labelled = torch.cat([regions, ignored], 1) if declared else regions
    guess = torch.tensor([[[[False, True, False, True]], [[True, True, True, True]]]])
    sure = torch.tensor([[[[False, False, True, False]]]])
    mixed = mixed_target(inside, labelled, guess, sure, None)
    assert mixed[0, :2, 0].int().tolist() == [[1, 0, 0, 1], [0, 0, 1, 1]]
    assert mixed[0, 2, 0].tolist() == [False, declared, False, True]


def test_voxels_that_do_not_count_give_no_gradient_and_the_others_do():
    torch.manual_seed(0)
    dice = {"batch_dice": False, "smooth": 1e-5, "ddp": False}
    inside = torch.rand(2, 1, 6, 6) < 0.4
    sure = torch.rand(2, 1, 6, 6) < 0.5
    labels = DC_and_CE_loss({**dice, "do_bg": False}, {}, ignore_label=3, dice_class=MemoryEfficientSoftDiceLoss)
    regions = DC_and_BCE_loss(
        {}, {**dice, "do_bg": True}, use_ignore_label=True, dice_class=MemoryEfficientSoftDiceLoss
    )
    label = torch.randint(0, 3, (2, 1, 6, 6), dtype=torch.int16)
    of_labels = mixed_target(inside, label, torch.randint(0, 3, (2, 1, 6, 6)), sure, 3)
    of_regions = mixed_target(inside, torch.rand(2, 3, 6, 6) < 0.5, torch.rand(2, 3, 6, 6) < 0.5, sure, None)
    for loss, target in ((labels, of_labels), (regions, of_regions)):
        logits = torch.randn(2, 3, 6, 6, requires_grad=True)
        loss(logits, target).backward()
        counted = (inside | sure).expand_as(logits)
        assert bool((logits.grad[~counted] == 0).all()) and bool((logits.grad[counted] != 0).all())


def test_a_target_is_brought_to_every_scale_as_nnunets_augmentation_does():
    from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform

    target = torch.randint(0, 4, (2, 1, 8, 12), dtype=torch.int16)
    stock = DownsampleSegForDSTransform([[1, 1], [0.5, 0.5], [0.25, 0.5]])
    scales = [torch.stack(one) for one in zip(*(stock._apply_to_segmentation(t) for t in target), strict=True)]
    found = at_scales(target, scales)
    assert all(torch.equal(one, other) and one.dtype == other.dtype for one, other in zip(found, scales, strict=True))
    assert at_scales(target, target) is target
