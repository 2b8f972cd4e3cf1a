from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from nnunet_active.scoring.slice_sums import AXES
from nnunet_active.scoring.statistics import ScoreAccumulator, score_logits


def random_logits(heads: int, seed: int = 0, shape=(5, 6, 7), scale: float = 2.0) -> torch.Tensor:
    return scale * torch.randn(heads, *shape, generator=torch.Generator().manual_seed(seed))


def by_the_formulas(logits: np.ndarray, regions: bool) -> dict[str, np.ndarray]:
    """Slice by slice in float64."""
    x = logits.astype(np.float64)
    if regions:
        p = 1 / (1 + np.exp(-x))
        entropy = -(p * np.log(p) + (1 - p) * np.log1p(-p))
        masks = {c: x[c] > 0 for c in range(len(x))}
        of_class = {c: entropy[c] for c in range(len(x))}
    else:
        log_p = log_softmax(x, axis=0)
        entropy = -(np.exp(log_p) * log_p).sum(0)
        masks = {c: x.argmax(0) == c for c in range(1, len(x))}
        of_class = dict.fromkeys(masks, entropy)
    foreground = np.any(list(masks.values()), axis=0)
    found = {}
    for axis in AXES:
        indices = range(x.shape[axis + 1])
        counts = [foreground.take(i, axis).sum() for i in indices]
        difficulty = []
        for i in indices:
            means = [
                of_class[c].take(i, axis)[mask.take(i, axis)].mean()
                for c, mask in masks.items()
                if mask.take(i, axis).any()
            ]
            difficulty.append(np.mean(means) if means else 0.0)
        found[f"slice_foreground_{axis}"], found[f"slice_difficulty_{axis}"] = np.array(counts), np.array(difficulty)
    return found


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("heads", [2, 3, 5])
def test_random_logits_give_what_the_formulas_give_slice_by_slice(heads, regions):
    logits = random_logits(heads, seed=heads)
    slices, expected = score_logits(logits, 1.0, regions).slices, by_the_formulas(logits.numpy(), regions)
    assert slices.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(slices[name], values, rtol=2e-5, atol=1e-6, err_msg=name)
    assert slices["slice_foreground_0"].dtype == np.int64 and slices["slice_difficulty_2"].dtype == np.float64


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 8), max_size=6),
    heads=st.sampled_from([2, 3, 5]),
    regions=st.booleans(),
    seed=st.integers(0, 5),
)
def test_any_split_into_slabs_gives_the_same_slices(cuts, heads, regions, seed):
    logits = random_logits(heads, seed, (9, 5, 4))
    starts = sorted({0, *cuts})
    accumulator = ScoreAccumulator(heads, regions, shape=(9, 5, 4))
    for start, stop in reversed(list(zip(starts, [*starts[1:], 9], strict=True))):
        accumulator.update(logits[:, start:stop], start)
    found, expected = accumulator.result(1.0).slices, score_logits(logits, 1.0, regions).slices
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6, err_msg=name)


def test_the_slices_of_every_axis_add_up_to_the_foreground_of_the_case():
    scores = score_logits(random_logits(4, shape=(40, 130, 130)), 1.0)  # more than one slab
    for axis in AXES:
        assert scores.slices[f"slice_foreground_{axis}"].sum() == scores.scalars["foreground_voxels"]


def test_a_marked_voxel_shows_in_its_three_slices_and_nowhere_else():
    logits = torch.zeros(3, 4, 5, 6)
    logits[0] = 5.0
    logits[2, 3, 1, 4] = 7.0
    slices = score_logits(logits, 1.0).slices
    for axis, index in enumerate((3, 1, 4)):
        assert np.flatnonzero(slices[f"slice_foreground_{axis}"]).tolist() == [index]
        assert np.flatnonzero(slices[f"slice_difficulty_{axis}"]).tolist() == [index]


def test_without_foreground_every_slice_is_zero():
    logits = torch.zeros(3, 2, 3, 4)
    logits[0] = 5.0
    assert not any(values.any() for values in score_logits(logits, 1.0).slices.values())


def test_a_small_class_counts_as_much_as_a_large_one_within_a_slice():
    logits = torch.zeros(3, 1, 10, 10)
    logits[1] = 50.0  # sure of class 1 ...
    logits[2, 0, 0, 0], logits[1, 0, 0, 0] = 1e-3, 0.0  # ... and of nothing at the one voxel of class 2
    found = score_logits(logits, 1.0).slices["slice_difficulty_0"][0]
    assert found == pytest.approx(np.log(3) / 2, rel=1e-5)


def test_an_accumulator_that_does_not_know_the_shape_takes_no_slices():
    accumulator = ScoreAccumulator(3)
    accumulator.update(random_logits(3))
    assert accumulator.result(1.0).slices == {}
