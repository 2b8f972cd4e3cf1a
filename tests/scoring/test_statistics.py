from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from nnunet_active.scoring.statistics import (
    SCALARS,
    CaseScores,
    ScoreAccumulator,
    mean_over_voxels,
    score_logits,
    voxel_entropy,
)

FOREGROUND = torch.tensor([0.5, 0.1, 0.0, 0.8], dtype=torch.float64)
GOLDEN = 0.37965814  # the mean of H over these four voxels
NAN_WITHOUT_FOREGROUND = {"foreground_entropy", "class_balanced_entropy", "confidence", "soft_dice_confidence"}
COLUMNS = {
    "mean_entropy",
    "foreground_voxels",
    "foreground_mm3",
    "foreground_entropy",
    "class_balanced_entropy",
    "soft_foreground_entropy",
    "confidence",
    "mean_margin",
    "mean_max_probability",
    "soft_dice_confidence",
    "voxels",
}


def entropy(p: np.ndarray) -> np.ndarray:
    """-p ln p with clipping."""
    return -p * np.log(np.clip(p, 1e-10, 1))


def oracle(logits: np.ndarray, regions: bool, voxel_mm3: float) -> tuple[dict[str, float], list[int]]:
    """All statistics voxel by voxel in float64, straight from the formulas."""
    x = logits.astype(np.float64).reshape(len(logits), -1)
    p = 1 / (1 + np.exp(-x)) if regions else np.exp(log_softmax(x, axis=0))
    rows = []
    for v in range(x.shape[1]):
        q = p[:, v]
        if regions:
            binary = entropy(q) + entropy(1 - q)
            classes = [c for c in range(len(q)) if x[c, v] > 0]
            top = np.maximum(q, 1 - q)
            rows.append((binary.sum(), classes, top.mean(), np.abs(2 * q - 1).mean(), q.max(), binary))
        else:
            first, second = np.sort(q)[::-1][:2]
            label = int(np.argmax(x[:, v]))
            classes = [label] if label else []
            rows.append((entropy(q).sum(), classes, first, first - second, 1 - q[0], np.full(len(q), entropy(q).sum())))
    h, top, margin, weight = (np.array([row[i] for row in rows]) for i in (0, 2, 3, 4))
    inside = np.array([bool(row[1]) for row in rows])
    per_class = [
        np.mean([row[5][c] for row in rows if c in row[1]]) for c in range(len(x)) if any(c in row[1] for row in rows)
    ]
    volume = [sum(c in row[1] for row in rows) for c in range(len(x))]
    if not regions:
        volume[0] = int((~inside).sum())
    dice = []
    for c in range(len(x)):
        there = np.array([c in row[1] for row in rows])
        if there.any():
            dice.append(2 * p[c][there].sum() / (p[c].sum() + there.sum()))
    scalars = {
        "mean_entropy": h.mean(),
        "foreground_voxels": inside.sum(),
        "foreground_mm3": inside.sum() * voxel_mm3,
        "foreground_entropy": h[inside].mean() if inside.any() else np.nan,
        "class_balanced_entropy": np.mean(per_class) if per_class else np.nan,
        "soft_foreground_entropy": (weight * h).sum() / weight.sum(),
        "confidence": top[inside].mean() if inside.any() else np.nan,
        "mean_margin": margin.mean(),
        "mean_max_probability": top.mean(),
        "soft_dice_confidence": np.mean(dice) if dice else np.nan,
        "voxels": x.shape[1],
    }
    return scalars, volume


def random_logits(heads: int, seed: int = 0, shape=(5, 6, 7), scale: float = 3.0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, scale, (heads, *shape)).astype(np.float32))


def assert_close(found: CaseScores, expected: CaseScores, tolerance: float = 1e-6) -> None:
    assert found.scalars == pytest.approx(expected.scalars, rel=tolerance, abs=tolerance, nan_ok=True)
    assert found.arrays["class_volume"].tolist() == expected.arrays["class_volume"].tolist()


# ---- golden value and closed forms ------------------------------------------------------------------------------------------


def test_the_golden_value_of_the_published_entropy():
    both = torch.stack([1 - FOREGROUND, FOREGROUND])
    assert voxel_entropy(both).mean().item() == pytest.approx(GOLDEN, abs=5e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_golden_value_from_logits(dtype):
    """A third head that nobody believes in changes nothing: the general path gives what the one for two heads gives."""
    logits = torch.stack([torch.zeros(4), torch.logit(FOREGROUND.clamp(1e-10, 1))]).to(dtype)
    scores = score_logits(logits.reshape(2, 1, 2, 2), 1.0)
    assert scores.scalars["mean_entropy"] == pytest.approx(GOLDEN, abs=1e-7)
    three = torch.cat([logits, torch.full((1, 4), -60.0, dtype=dtype)]).reshape(3, 1, 2, 2)
    assert score_logits(three, 1.0).scalars["mean_entropy"] == pytest.approx(GOLDEN, abs=1e-7)


def test_probabilities_are_clipped_from_below_and_above():
    zero, one = voxel_entropy(torch.tensor([[0.0], [2.0]], dtype=torch.float64)), -1e-10 * math.log(1e-10)
    assert zero.item() == pytest.approx(one, rel=1e-9)


@pytest.mark.parametrize("heads", [2, 3, 5])
def test_a_uniform_output_has_the_entropy_ln_c_and_no_margin(heads):
    scalars = score_logits(torch.zeros(heads, 2, 3, 4), 1.0).scalars
    for name in ("mean_entropy", "soft_foreground_entropy"):
        assert scalars[name] == pytest.approx(math.log(heads), abs=1e-6)
    assert scalars["mean_margin"] == pytest.approx(0, abs=1e-6)
    assert scalars["mean_max_probability"] == pytest.approx(1 / heads, abs=1e-6)
    assert scalars["foreground_voxels"] == 0  # a tie goes to the first head, as in an arg-max


@pytest.mark.parametrize("heads", [2, 3])
def test_sums_over_hundreds_of_thousands_of_equal_voxels_stay_exact(heads):
    """Adding one by one in float32 would be off by a part in a thousand here."""
    logits = torch.zeros(heads, 64, 64, 65)
    logits[1] += 1e-3
    scalars = score_logits(logits, 1.0).scalars
    for name in ("mean_entropy", "foreground_entropy", "class_balanced_entropy", "soft_foreground_entropy"):
        assert scalars[name] == pytest.approx(math.log(heads), rel=2e-6)
    assert scalars["confidence"] == pytest.approx(math.exp(1e-3) / (heads - 1 + math.exp(1e-3)), rel=1e-6)


@pytest.mark.parametrize("heads", [2, 3, 5])
def test_a_certain_output_has_no_entropy_and_full_confidence(heads):
    label = torch.arange(24).reshape(2, 3, 4) % heads
    logits = 100.0 * torch.nn.functional.one_hot(label, heads).movedim(-1, 0)
    scores = score_logits(logits, 2.0)
    for name in ("mean_entropy", "foreground_entropy", "class_balanced_entropy", "soft_foreground_entropy"):
        assert scores.scalars[name] == pytest.approx(0, abs=1e-7)
    for name in ("confidence", "mean_margin", "mean_max_probability", "soft_dice_confidence"):
        assert scores.scalars[name] == pytest.approx(1, abs=1e-7)
    assert scores.arrays["class_volume"].tolist() == torch.bincount(label.flatten()).tolist()
    assert scores.scalars["foreground_voxels"] == (label > 0).sum().item()


def test_regions_that_do_not_know_have_one_bit_per_head():
    scalars = score_logits(torch.zeros(3, 2, 2, 2), 1.0, regions=True).scalars
    assert scalars["mean_entropy"] == pytest.approx(3 * math.log(2), abs=1e-6)
    assert scalars["mean_max_probability"] == pytest.approx(0.5) and scalars["mean_margin"] == pytest.approx(0)
    assert scalars["foreground_voxels"] == 0


def test_one_region_says_the_same_as_two_softmax_heads():
    logits = random_logits(1)
    region = score_logits(logits, 1.0, regions=True)
    softmax = score_logits(torch.cat([torch.zeros_like(logits), logits]), 1.0)
    for name in COLUMNS:
        assert region.scalars[name] == pytest.approx(softmax.scalars[name], rel=1e-5), name
    assert region.arrays["class_volume"][0] == softmax.arrays["class_volume"][1]


# ---- against the formulas, voxel by voxel -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("heads", [2, 3, 5])
@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
def test_random_logits_give_what_the_formulas_give(heads, regions, dtype, scale):
    logits = random_logits(heads, seed=heads, scale=scale).to(dtype)
    scores = score_logits(logits, 1.5, regions)
    scalars, volume = oracle(logits.float().numpy(), regions, 1.5)
    assert scores.scalars.keys() == COLUMNS
    assert scores.scalars == pytest.approx(scalars, rel=2e-5, abs=1e-6)
    assert scores.arrays["class_volume"].tolist() == volume
    assert scores.arrays["class_volume"].dtype == np.int64
    assert all(type(value) is float for value in scores.scalars.values())


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 8), max_size=6),
    axis=st.integers(1, 3),
    heads=st.sampled_from([2, 3, 5]),
    regions=st.booleans(),
    seed=st.integers(0, 5),
)
def test_any_split_into_slabs_gives_the_same(cuts, axis, heads, regions, seed):
    logits = random_logits(heads, seed, (9, 9, 9))
    whole = ScoreAccumulator(heads, regions)
    whole.update(logits)
    accumulator = ScoreAccumulator(heads, regions)
    for slab in reversed(torch.tensor_split(logits, sorted(set(cuts)), dim=axis)):
        accumulator.update(slab)
    assert_close(accumulator.result(2.0), whole.result(2.0))
    assert_close(score_logits(logits, 2.0, regions), whole.result(2.0))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), heads=st.sampled_from([2, 3, 5]), scale=st.floats(0.01, 50), regions=st.booleans())
def test_every_column_is_within_its_bounds(seed, heads, scale, regions):
    scalars = score_logits(random_logits(heads, seed, (3, 4, 5), scale), 0.5, regions).scalars
    most = heads * math.log(2) if regions else math.log(heads)
    for name in ("mean_entropy", "foreground_entropy", "soft_foreground_entropy", "class_balanced_entropy"):
        assert math.isnan(scalars[name]) or -1e-6 <= scalars[name] <= most + 1e-5, name
    assert 0 <= scalars["mean_margin"] <= scalars["mean_max_probability"] + 1e-6 <= 1 + 2e-6
    assert math.isnan(scalars["confidence"]) or 1 / heads - 1e-6 <= scalars["confidence"] <= 1 + 1e-6
    assert math.isnan(scalars["soft_dice_confidence"]) or 0 < scalars["soft_dice_confidence"] <= 1 + 1e-6
    assert 0 <= scalars["foreground_voxels"] <= scalars["voxels"] == 60


def test_more_voxels_than_one_slab_holds_are_all_counted():
    logits = random_logits(3, shape=(5, 400, 400))
    scores = score_logits(logits, 1.0)
    assert scores.scalars["voxels"] == 800_000 == scores.arrays["class_volume"].sum()
    p = torch.softmax(logits.double(), 0)
    assert scores.scalars["mean_entropy"] == pytest.approx(voxel_entropy(p).mean().item(), rel=1e-5)


def test_logits_that_are_not_contiguous_give_the_same():
    logits = random_logits(3)
    assert_close(score_logits(logits.movedim(1, 3).contiguous().movedim(3, 1), 1.0), score_logits(logits, 1.0))


# ---- volumes ----------------------------------------------------------------------------------------------------------------


def test_the_volume_is_the_count_of_voxels_times_their_size():
    logits = torch.full((3, 4, 4, 4), 0.0)
    logits[0] = 1
    logits[2, 0, 0, :3] = 5
    logits[1, 1, 1, :2] = 5
    scores = score_logits(logits, voxel_mm3=3.0 * 0.5 * 0.5)
    assert scores.scalars["foreground_voxels"] == 5
    assert scores.scalars["foreground_mm3"] == pytest.approx(5 * 0.75)
    assert scores.arrays["class_volume"].tolist() == [59, 2, 3]


def test_classes_of_very_different_size_count_the_same_in_the_class_balanced_mean():
    logits = torch.zeros(3, 1, 10, 10)
    logits[1] = 8.0  # sure of class 1 ...
    logits[2, 0, 0, 0], logits[1, 0, 0, 0] = 0.5, 0.0  # ... and not of the one voxel of class 2
    scalars = score_logits(logits, 1.0).scalars
    h = voxel_entropy(torch.softmax(logits.double(), 0)).flatten()
    assert scalars["class_balanced_entropy"] == pytest.approx((h[0] + h[1:].mean()).item() / 2, rel=1e-5)
    assert scalars["foreground_entropy"] == pytest.approx(h.mean().item(), rel=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 10**6), min_size=2, max_size=12, unique=True),
    st.data(),
)
def test_dividing_by_the_largest_volume_keeps_the_ranking_but_min_max_scaling_does_not(volumes, data):
    """Min-max scaling gives the smallest tumour 0, so that it can never be picked, however uncertain it is."""
    a = np.array(volumes, dtype=float)
    u = np.array([data.draw(st.floats(0.01, 1.0)) for _ in volumes])
    order = np.argsort(-(u * a), kind="stable")
    scaled = (u * (a / a.max()))[order]
    assert (np.diff(scaled) <= 1e-12).all()
    smallest = int(np.argmin(a))
    u[smallest] = 2 * u.max() * a.max() / a.min()  # by far the first by the raw product
    assert np.argmax(u * a) == smallest == np.argmax(u * (a / a.max()))
    assert (u * (a - a.min()) / (a.max() - a.min()))[smallest] == 0


# ---- nothing predicted, bad output ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("heads", "regions"), [(2, False), (3, False), (3, True)])
def test_without_foreground_only_the_named_columns_are_nan(heads, regions):
    logits = random_logits(heads, scale=0.5) - 4
    if not regions:
        logits[0] = 4
    scores = score_logits(logits, 1.0, regions)
    assert {name for name, value in scores.scalars.items() if math.isnan(value)} == NAN_WITHOUT_FOREGROUND
    assert scores.scalars["foreground_voxels"] == scores.scalars["foreground_mm3"] == 0
    assert scores.scalars["soft_foreground_entropy"] > 0
    assert scores.arrays["class_volume"][1:].sum() == 0


@pytest.mark.parametrize(("heads", "regions"), [(2, False), (3, False), (3, True)])
def test_a_network_that_rules_foreground_out_has_a_soft_entropy_of_zero(heads, regions):
    logits = torch.full((heads, 2, 2, 2), -200.0)
    if not regions:
        logits[0] = 200.0
    assert score_logits(logits, 1.0, regions).scalars["soft_foreground_entropy"] == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("heads", "regions"), [(2, False), (3, False), (5, False), (1, True), (3, True)])
def test_a_single_bad_logit_is_refused(heads, regions, dtype, value):
    for head in range(heads):
        logits = random_logits(heads).to(dtype)
        logits[head, 2, 3, 4] = value
        with pytest.raises(ValueError, match="NaN or infinite"):
            score_logits(logits, 1.0, regions)


def test_the_largest_finite_half_precision_logits_are_accepted():
    logits = torch.full((2, 8, 64, 64), 65504.0, dtype=torch.float16)
    assert score_logits(logits, 1.0).scalars["mean_entropy"] == pytest.approx(math.log(2))


def test_an_empty_array_is_refused():
    for shape in ((3, 0, 4, 4), (3, 4, 0, 4)):
        with pytest.raises(ValueError, match="no voxel"):
            score_logits(torch.zeros(shape), 1.0)


@pytest.mark.parametrize(("heads", "regions"), [(2, False), (4, False), (3, True)])
def test_the_entropy_histogram_counts_every_voxel_in_bins_up_to_the_highest_entropy(heads, regions):
    logits = 3 * torch.randn(heads, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    scores = score_logits(logits, 1.0, regions, entropy_bins=16)
    histogram = scores.arrays["entropy_histogram"]
    if regions:
        p = logits.double().sigmoid()
        entropy = -(p * p.log() + (1 - p) * (1 - p).log()).sum(0)
    else:
        p = logits.double().softmax(0)
        entropy = -(p * p.log()).sum(0)
    highest = heads * math.log(2) if regions else math.log(heads)
    expected, _ = np.histogram(entropy.numpy(), bins=16, range=(0, highest))
    assert histogram.dtype == np.int64 and histogram.sum() == 5 * 6 * 7
    assert np.abs(histogram - expected).sum() <= 2  # a voxel on an edge may fall to either side in single precision
    assert scores.scalars == score_logits(logits, 1.0, regions).scalars


def test_a_voxel_of_highest_entropy_falls_into_the_last_bin():
    histogram = score_logits(torch.zeros(3, 2, 2, 2), 1.0, entropy_bins=8).arrays["entropy_histogram"]
    assert histogram.tolist() == [0] * 7 + [8]


def test_the_names_of_the_scalars_are_those_of_the_table():
    assert tuple(score_logits(torch.zeros(2, 2, 2, 2), 1.0).scalars) == SCALARS


def test_a_mean_over_voxels_is_never_negative_and_never_of_something_infinite():
    assert mean_over_voxels(torch.tensor(6.0), 4) == 1.5
    assert mean_over_voxels(-1e-9, 4) == 0
    with pytest.raises(ValueError, match="NaN or infinite"):
        mean_over_voxels(float("nan"), 4)
