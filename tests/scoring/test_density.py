from __future__ import annotations

import warnings
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter
from scipy.stats import wasserstein_distance
from skimage.transform import resize
from sklearn.decomposition import PCA

from nnunet_active.scoring.density import (
    case_signature,
    default_radius,
    neighbour_counts,
    neighbour_density,
    neighbour_histogram,
    pairwise_distances,
    volume_signature,
)
from nnunet_active.scoring.quantiles import quantile_integrals

LINE = np.abs(np.subtract.outer([0.0, 1.0, 3.0, 10.0], [0.0, 1.0, 3.0, 10.0]))
finite = st.floats(-1e3, 1e3)
signature_sets = st.tuples(st.integers(1, 6), st.integers(1, 3), st.integers(1, 5)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=finite)
)
distance_tables = signature_sets.map(pairwise_distances)


def head(seed: int, shape: tuple[int, int, int] = (24, 24, 24)) -> np.ndarray:
    """Make a smooth textured ellipsoid on an empty background, z-scored, float32: what a normalised scan is like."""
    rng = np.random.default_rng(seed)
    axes = [np.linspace(-1, 1, length) - rng.uniform(-0.15, 0.15) for length in shape]
    grid = np.meshgrid(*[axis / rng.uniform(0.6, 0.9) for axis in axes], indexing="ij")
    texture = gaussian_filter(rng.standard_normal(shape), rng.uniform(1, 3))
    volume = (sum(g**2 for g in grid) < 1) * (2 + texture / texture.std() * rng.uniform(0.3, 0.8))
    return ((volume - volume.mean()) / volume.std()).astype(np.float32)


def literal_scores(volume: np.ndarray, size: int, solver: str = "auto") -> np.ndarray:
    """Follow the recipe word for word."""
    if volume.shape != (size, size, size):
        volume = resize(volume, (size, size, size), anti_aliasing=True)
    return PCA(n_components=0.75, svd_solver=solver).fit_transform(volume.reshape(size * size, size)).ravel()


def distance(a: np.ndarray, b: np.ndarray, size: int = 24) -> float:
    return float(pairwise_distances(np.stack([case_signature(v[None], size) for v in (a, b)]))[0, 1])


# ---- signatures -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["auto", "full"])
@pytest.mark.parametrize("size, shape", [(24, (24, 24, 24)), (64, (64, 64, 64)), (24, (9, 40, 31))])
def test_distances_equal_the_literal_recipe_within_half_a_percent(
    solver: str, size: int, shape: tuple[int, int, int]
) -> None:
    volumes = [head(seed, shape) for seed in range(6)]
    ours = pairwise_distances(np.stack([case_signature(v[None], size) for v in volumes]))
    scores = [literal_scores(v, size, solver) for v in volumes]
    for i, j in combinations(range(6), 2):
        assert ours[i, j] == pytest.approx(wasserstein_distance(scores[i], scores[j]), rel=0.005)


def test_a_volume_of_rank_one_has_the_distribution_of_its_row_weights() -> None:
    # rows = weight · direction, so the one component is the direction and the scores are the centred weights times its length
    weights = np.random.default_rng(0).exponential(size=64)
    direction = np.array([0, 1, 2, 2, 0, 0, 0, 0.0])  # length 3, largest loading positive
    signature = volume_signature(np.outer(weights, direction).reshape(8, 8, 8), size=8, bins=16)
    np.testing.assert_allclose(signature, quantile_integrals(3 * (weights - weights.mean()), 16), atol=1e-5)
    np.testing.assert_allclose(
        volume_signature(-np.outer(weights, direction).reshape(8, 8, 8), 8, bins=16), -signature[::-1], atol=1e-5
    )


@pytest.mark.parametrize("shape", [(12, 12, 12), (30, 41, 7), (1, 12, 50)])
def test_resizing_axis_by_axis_equals_resize_of_the_volume(shape: tuple[int, int, int]) -> None:
    volume = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    resized = resize(volume, (12, 12, 12), anti_aliasing=True)  # a volume of that size is taken as it is
    np.testing.assert_allclose(volume_signature(volume, 12, bins=64), volume_signature(resized, 12, bins=64), atol=1e-4)


@pytest.mark.parametrize("offset", [-5.0, 1000.0])
def test_an_intensity_offset_changes_nothing(offset: float) -> None:
    a, b = head(0).astype(np.float64), head(1)
    assert distance(a, a + offset) < 1e-4 * distance(a, b)


@pytest.mark.parametrize("factor", [2.0, 1e-30, 1e30, 1e150])
def test_the_signature_is_proportional_to_the_intensity_scale(factor: float) -> None:
    a = head(0).astype(np.float64)
    np.testing.assert_allclose(volume_signature(factor * a, 24) / factor, volume_signature(a, 24), atol=1e-4)


def test_doubling_the_intensities_is_farther_than_another_volume_so_normalise_first() -> None:
    a, b = head(0), head(1)
    assert distance(a, 2 * a) > 2 * distance(a, b) > 0


def test_a_few_very_bright_voxels_do_not_cost_the_rest_its_precision() -> None:
    rng = np.random.default_rng(0)
    volume = gaussian_filter(rng.standard_normal((128, 128, 128)), 2).astype(np.float32)
    volume /= volume.std()
    volume[:80] = (
        0  # an even background that is not in the middle of the range, where rounding errors all go the same way
    )
    volume[100, 100, 100], volume[100, 100, 101] = 700, -210
    scores = literal_scores(volume.astype(np.float64), 128)
    spread = np.abs(scores).mean()
    assert np.abs(volume_signature(volume) - quantile_integrals(scores, 2048)).mean() < 1e-3 * spread


def test_the_last_axis_matters() -> None:
    a = head(0)
    assert distance(a, a.transpose(2, 1, 0)) > 1e-3


@pytest.mark.parametrize(
    "volume",
    [
        np.zeros((5, 6, 7)),
        np.full((8, 8, 8), 1e6 / 3, np.float32),
        np.full((1, 1, 1), -4),
        np.broadcast_to(np.linspace(0, 1e3, 8), (8, 8, 8)),  # every row along the last axis is the same
    ],
)
def test_a_volume_without_differing_rows_gives_zeros_without_a_warning(volume: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        signature = volume_signature(volume, size=8, bins=32)
    np.testing.assert_array_equal(signature, np.zeros(32))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float16, np.float32, np.float64])
def test_any_real_dtype_gives_the_same_signature(dtype: type) -> None:
    volume = np.random.default_rng(0).integers(0, 100, (8, 8, 8))
    np.testing.assert_allclose(
        volume_signature(volume.astype(dtype), 8, bins=64), volume_signature(volume, 8, bins=64), atol=1e-3
    )


def test_the_input_is_left_as_it_was_and_the_result_is_repeatable() -> None:
    volume = head(3)
    before = volume.copy()
    np.testing.assert_array_equal(volume_signature(volume, 24), volume_signature(volume, 24))
    np.testing.assert_array_equal(volume, before)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_voxel_that_is_not_finite_is_refused_and_the_modality_named(bad: float) -> None:
    image = np.stack([head(0), head(1)])
    image[1, 2, 3, 4] = bad
    with pytest.raises(ValueError, match=r"modality 1: expected finite voxels, found 1 "):
        case_signature(image, 24)


@pytest.mark.parametrize("shape", [(0, 4, 4), (4, 4)])
def test_a_volume_of_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        volume_signature(np.ones(shape))


@pytest.mark.parametrize(
    "parameters", [{"size": 1}, {"bins": 0}, {"explained_variance": 1.0}, {"explained_variance": 0.0}]
)
def test_a_parameter_out_of_range_is_refused(parameters: dict) -> None:
    with pytest.raises(ValueError, match="expected size"):
        volume_signature(head(0), **parameters)


def test_a_case_holds_one_signature_per_modality() -> None:
    image = np.stack([head(0), head(1), head(2)])
    expected = np.stack([volume_signature(v, 24, bins=100) for v in image])
    assert expected.shape == (3, 100) and expected.dtype == np.float64
    np.testing.assert_array_equal(case_signature(image, 24, bins=100), expected)
    with pytest.raises(ValueError, match="shape"):
        case_signature(image[0])


# ---- distances --------------------------------------------------------------------------------------------------------------


def test_the_distance_of_two_cases_is_the_mean_over_modalities() -> None:
    cases = [np.stack([head(10 * case + modality) for modality in range(2)]) for case in range(3)]
    ours = pairwise_distances(np.stack([case_signature(case, 24) for case in cases]))
    for i, j in combinations(range(3), 2):
        parts = [
            wasserstein_distance(literal_scores(a, 24), literal_scores(b, 24))
            for a, b in zip(cases[i], cases[j], strict=True)
        ]
        assert ours[i, j] == pytest.approx(np.mean(parts), rel=0.005)


@given(signature_sets, st.randoms(use_true_random=False))
def test_distances_are_a_symmetric_metric_and_follow_a_permutation(signatures: np.ndarray, random) -> None:
    n = len(signatures)
    distances = pairwise_distances(signatures)
    assert distances.shape == (n, n)
    np.testing.assert_array_equal(distances, distances.T)
    np.testing.assert_array_equal(np.diag(distances), 0)
    brute = np.array([[np.abs(a - b).mean() for b in signatures] for a in signatures])
    np.testing.assert_allclose(distances, brute, atol=1e-9)
    assert (distances[:, None, :] <= distances[:, :, None] + distances[None, :, :] + 1e-9).all()
    order = random.sample(range(n), n)
    np.testing.assert_array_equal(pairwise_distances(signatures[order]), distances[np.ix_(order, order)])


def test_signatures_that_are_not_finite_or_not_three_dimensional_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        pairwise_distances(np.full((2, 1, 3), np.nan))
    for shape in [(2, 3), (0, 1, 3)]:
        with pytest.raises(ValueError, match="shape"):
            pairwise_distances(np.zeros(shape))


# ---- radius and density -----------------------------------------------------------------------------------------------------


def test_the_radius_is_a_quantile_of_the_distances_between_different_cases() -> None:
    # between cases at 0, 1, 3, 10: distances 1, 2, 3, 7, 9, 10
    assert default_radius(LINE, 0.0) == 1
    assert default_radius(LINE, 0.5) == 5
    assert default_radius(LINE, 1.0) == 10
    assert default_radius(LINE) == pytest.approx(1.5)


def test_density_on_a_line_in_closed_form() -> None:
    np.testing.assert_array_equal(neighbour_density(LINE, 2.5) * 4, [2, 3, 2, 1])
    np.testing.assert_array_equal(neighbour_density(LINE, 1.0) * 4, [1, 1, 1, 1])  # d < δ, not d <= δ
    assert neighbour_histogram(neighbour_counts(LINE, 2.5)) == {1: 1, 2: 2, 3: 1}


def test_identical_cases_have_distance_zero_and_equal_density() -> None:
    signature = case_signature(head(0)[None], 24)
    distances = pairwise_distances(np.stack([signature] * 4))
    np.testing.assert_array_equal(distances, np.zeros((4, 4)))
    assert default_radius(distances) == 0
    np.testing.assert_array_equal(neighbour_density(distances, 0.0), np.full(4, 0.25))


def test_one_case_alone_has_density_one() -> None:
    distances = pairwise_distances(case_signature(head(0)[None], 24)[None])
    assert default_radius(distances) == 0
    np.testing.assert_array_equal(neighbour_density(distances, 0.0), [1.0])
    assert neighbour_histogram(neighbour_counts(distances, 0.0)) == {1: 1}


@given(distance_tables, st.floats(0, 3e3), st.floats(0, 3e3))
@settings(deadline=None)
def test_density_lies_in_its_range_and_grows_with_the_radius(distances: np.ndarray, r: float, s: float) -> None:
    n, (small, large) = len(distances), sorted((r, s))
    near, far = neighbour_density(distances, small), neighbour_density(distances, large)
    assert near.shape == (n,)
    for rho in (near, far):
        assert (rho >= 1 / n).all() and (rho <= 1 + 1e-12).all()
    assert (near <= far + 1e-12).all()


@given(distance_tables, st.floats(0, 3e3), st.randoms(use_true_random=False))
def test_density_follows_a_permutation_and_the_histogram_counts_every_case(
    distances: np.ndarray, radius: float, random
) -> None:
    n = len(distances)
    order = random.sample(range(n), n)
    rho = neighbour_density(distances, radius)
    permuted = neighbour_density(distances[np.ix_(order, order)], radius)
    np.testing.assert_allclose(permuted, rho[order], rtol=1e-12)
    histogram = neighbour_histogram(neighbour_counts(distances, radius))
    assert sum(histogram.values()) == n
    assert sum(k * cases for k, cases in histogram.items()) == pytest.approx(
        n * neighbour_density(distances, radius).sum()
    )


@pytest.mark.parametrize(
    "distances", [np.zeros((2, 3)), np.full((2, 2), np.nan), np.full((2, 2), -1.0), np.zeros((0, 0))]
)
def test_distances_that_are_no_table_of_distances_are_refused(distances: np.ndarray) -> None:
    for function in (default_radius, lambda d: neighbour_density(d, 1.0)):
        with pytest.raises(ValueError, match="expected"):
            function(distances)


@pytest.mark.parametrize("radius", [-1.0, np.nan])
def test_a_negative_or_missing_radius_is_refused(radius: float) -> None:
    with pytest.raises(ValueError, match="radius"):
        neighbour_density(LINE, radius)
    with pytest.raises(ValueError, match="quantile"):
        default_radius(LINE, radius)


def test_the_distance_between_two_signatures_is_that_of_an_independent_optimal_transport_solver():
    ot = pytest.importorskip("ot", reason="POT is in the test extra")
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((8, 8, 8)), 1.5 * rng.standard_normal((8, 8, 8)) ** 3
    scores = []
    for volume in (a, b):
        rows = volume.reshape(64, 8)
        scores.append(PCA(n_components=0.75).fit_transform(rows).ravel())
    expected = ot.wasserstein_1d(scores[0], scores[1], p=1)
    signatures = np.stack([case_signature(v[None], size=8) for v in (a, b)])
    assert pairwise_distances(signatures)[0, 1] == pytest.approx(expected, rel=5e-3)
