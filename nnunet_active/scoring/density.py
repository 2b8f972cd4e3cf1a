"""Representativeness: how many other cases of the target pool look like this one (mmActS, arXiv 2508.20528).

The chain, from images to one number per case:

1. ``case_signature``: per modality, PCA of the volume, then the distribution of the PCA scores as a short vector;
2. ``pairwise_distances``: the mean over modalities of the 1-Wasserstein distance between those distributions;
3. ``default_radius``: the radius δ, which the paper does not give;
4. ``neighbour_density``: the share of the pool that lies within δ.

Nothing here needs a model or a label, so it is all computed once per target pool. Pass images normalised by nnU-Net: the
distance ignores an intensity offset but not an intensity scale. It also depends on which axis is the last, because the
PCA sees the rows along that axis.

**Why a signature.** In one dimension W(P, Q) = ∫₀¹ |F_P⁻¹(u) − F_Q⁻¹(u)| du. Sorting both samples for every pair, as
``scipy.stats.wasserstein_distance`` does, repeats the same work n − 1 times per volume. Here each volume's quantile function is
integrated once over fixed probability bins, and a pair costs one L1 distance of two short vectors. The bins hold exact
integrals, so the result differs from the exact W only in bins in which the two quantile functions cross, and never exceeds it.
The bins are narrow towards 0 and 1 (edges (1 − cos πb/B)/2), where heavy tails make the quantile functions steep.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.spatial.distance import pdist, squareform
from skimage.transform import resize

from nnunet_active.scoring.quantiles import quantile_integrals

DEFAULT_SIZE = 128
DEFAULT_EXPLAINED_VARIANCE = 0.75
# On brain, heart and hippocampus scans the bins' largest relative error of W is 0.07 % with 512 of them, 0.03 % with 1024, 0.01 %
# with 2048; bins of equal width have five to ten times that error. Single precision adds less than 0.01 %.
DEFAULT_BINS = 2048


def volume_signature(
    volume: np.ndarray,
    size: int = DEFAULT_SIZE,
    explained_variance: float = DEFAULT_EXPLAINED_VARIANCE,
    bins: int = DEFAULT_BINS,
) -> np.ndarray:
    """Describe one volume by the distribution of its PCA scores.

    Resize to size³ with anti-aliasing → reshape to (size², size) → a PCA fitted to this volume, keeping the components that hold
    75 % of the variance → flatten the scores → integrate their quantile function over ``bins`` probability bins:

        signature[b] = B · ∫_{u_b}^{u_(b+1)} F⁻¹(u) du,   u_b = (1 − cos(πb / B)) / 2,   B = bins

    so that **W(P, Q) = mean |signature_P − signature_Q|**. Signatures are comparable only if made with equal parameters.

    Args:
        volume: (Z, Y, X), any real dtype, normalised intensities; the last axis is the PCA's feature axis.
        size: edge length in voxels of the resized volume; a volume that already has this shape stays unchanged.
        explained_variance: share of the variance to keep, above 0 and below 1.
        bins: number of probability bins.

    Returns:
        float64 of shape (bins,), in the volume's intensity unit; its mean is 0. All zeros if all rows along the last axis are
        equal (a constant volume, for example).

    Raises:
        ValueError: not three axes, an empty axis, NaN or infinite voxels, or a parameter out of range.

    Source: PCA and Wasserstein [paper]; this recipe [reading], from earlier public code of the same first author; the bins [choice].
    The components have scikit-learn's signs since 1.5: the loading of largest magnitude is positive in each component.

    >>> volume_signature(np.full((8, 8, 8), 7.0), size=8, bins=4)
    array([0., 0., 0., 0.])
    """
    if size < 2 or bins < 1 or not 0 < explained_variance < 1:
        raise ValueError(
            f"expected size >= 2, bins >= 1 and 0 < explained_variance < 1, "
            f"found size={size}, bins={bins}, explained_variance={explained_variance}"
        )
    volume, scale = _standardised(volume)
    if scale == 0:
        return np.zeros(bins)
    rows = _resized(volume, size).reshape(size * size, size)
    # A float32 mean along the first axis adds one by one and loses digits; two steps over size numbers each keep them.
    column_means = rows.reshape(size, size, size).mean(axis=0).mean(axis=0)
    rows -= column_means  # in place: we own the array, and large temporary ones cost more than the arithmetic
    # Intensities lie within ±1 here: anything below this limit is rounding of single precision, not a difference between rows.
    if max(rows.max(), -rows.min()) < 1e-6:
        return np.zeros(bins)
    scores = rows @ _principal_components(rows, explained_variance)
    return scale * quantile_integrals(scores.ravel(order="K"), bins)


def case_signature(
    image: np.ndarray,
    size: int = DEFAULT_SIZE,
    explained_variance: float = DEFAULT_EXPLAINED_VARIANCE,
    bins: int = DEFAULT_BINS,
) -> np.ndarray:
    """Compute the signature of each modality of one case.

    Args:
        image: (M, Z, Y, X), one normalised volume per modality.
        size: see ``volume_signature``.
        explained_variance: see ``volume_signature``.
        bins: see ``volume_signature``.

    Returns:
        float64 of shape (M, bins).

    Raises:
        ValueError: as ``volume_signature``; the message names the modality by its index, and the caller adds the case.
    """
    image = np.asarray(image)
    if image.ndim != 4 or len(image) == 0:
        raise ValueError(f"expected an image of shape (M, Z, Y, X) with M >= 1, found shape {image.shape}")

    signatures = []
    for modality, volume in enumerate(image):
        try:
            signatures.append(volume_signature(volume, size, explained_variance, bins))
        except ValueError as error:
            raise ValueError(f"modality {modality}: {error}") from error
    return np.stack(signatures)


def pairwise_distances(signatures: np.ndarray) -> np.ndarray:
    """Distance between every two cases: d(x_i, x_j) = (1/M) Σ_m W(P_i^m, P_j^m)   [reading].

    With signatures from ``volume_signature``, this is the mean absolute difference over modalities and bins.

    Args:
        signatures: (n, M, bins), from ``case_signature``.

    Returns:
        float64 of shape (n, n), in the images' intensity unit, symmetric, zero on the diagonal. It takes half as much memory
        again while it is computed.

    Raises:
        ValueError: wrong number of axes, an empty axis, or values that are not finite.
    """
    signatures = np.asarray(signatures, dtype=np.float64)
    if signatures.ndim != 3 or signatures.size == 0:
        raise ValueError(f"expected signatures of shape (n, M, bins), none of them 0, found shape {signatures.shape}")
    if not np.isfinite(signatures).all():
        raise ValueError("expected finite signatures, found NaN or infinite values")
    if len(signatures) == 1:
        return np.zeros((1, 1))
    flat = signatures.reshape(len(signatures), -1)
    distances = pdist(flat, metric="cityblock")
    distances /= flat.shape[1]
    return squareform(distances, checks=False)


def default_radius(distances: np.ndarray, quantile: float = 0.1) -> float:
    """Choose the radius δ: a quantile of the distances between different cases   [choice; the paper gives no δ].

    Args:
        distances: (n, n), symmetric, from ``pairwise_distances``.
        quantile: between 0 and 1.

    Returns:
        δ in the unit of the distances; 0.0 for a single case, and 0 if a share ``quantile`` of the pairs is identical.

    Raises:
        ValueError: distances that are not square, finite and non-negative, or a quantile outside [0, 1].

    >>> default_radius(np.array([[0.0, 2.0], [2.0, 0.0]]))
    2.0
    """
    distances = _checked_distances(distances)
    if not 0 <= quantile <= 1:
        raise ValueError(f"expected a quantile between 0 and 1, found {quantile}")
    between = distances[np.triu_indices(len(distances), k=1)]
    return float(np.quantile(between, quantile)) if between.size else 0.0


def neighbour_counts(distances: np.ndarray, radius: float) -> np.ndarray:
    """Number of cases within the radius of each, itself included: (n,) int64; arguments and errors as of :func:`neighbour_density`."""
    distances = _checked_distances(distances)
    if not radius >= 0:
        raise ValueError(f"expected a radius of 0 or more, found {radius}")
    near = distances < radius
    np.fill_diagonal(near, True)
    return near.sum(axis=1)


def neighbour_density(distances: np.ndarray, radius: float) -> np.ndarray:
    """Representativeness ρ of every case [reading]: ρ(x_i) = (1/n) Σ_j 1[d(x_i, x_j) < δ].

    The case itself always counts, even with δ = 0, so an isolated case keeps ρ = 1/n > 0 [choice].

    Args:
        distances: (n, n), from ``pairwise_distances``.
        radius: δ >= 0, in the unit of the distances.

    Returns:
        float64 of shape (n,), without unit, in [1/n, 1].

    Raises:
        ValueError: distances that are not square, finite and non-negative, or a radius that is negative or NaN.

    >>> line = np.array([[0.0, 1.0, 3.0], [1.0, 0.0, 2.0], [3.0, 2.0, 0.0]])
    >>> neighbour_density(line, radius=1.5) * 3
    array([2., 2., 1.])
    """
    return neighbour_counts(distances, radius) / len(distances)


def neighbour_histogram(counts: np.ndarray) -> dict[int, int]:
    """Count the cases by their number of neighbours, from :func:`neighbour_counts`; for the log.

    If all cases have 1, δ is too small for ρ to order the pool; if all have n, it is too large.

    >>> line = np.array([[0.0, 1.0, 3.0], [1.0, 0.0, 2.0], [3.0, 2.0, 0.0]])
    >>> neighbour_histogram(neighbour_counts(line, radius=1.5))
    {1: 1, 2: 2}
    """
    neighbours, cases = np.unique(counts, return_counts=True)
    return dict(zip(neighbours.tolist(), cases.tolist(), strict=True))


def _standardised(volume: np.ndarray) -> tuple[np.ndarray, float]:
    """Return (volume − its mean) / scale in [−1, 1] as float32, and the scale (0 for a constant volume).

    The PCA scores ignore the offset and are proportional to the scale. With both removed first, neither can cost single
    precision any digits or overflow a square.
    """
    volume = np.asarray(volume)
    if volume.ndim != 3 or volume.size == 0:
        raise ValueError(f"expected a volume of shape (Z, Y, X), none of them 0, found shape {volume.shape}")
    if not np.issubdtype(volume.dtype, np.floating):
        volume = volume.astype(np.float64)
    lowest, highest = float(volume.min()), float(volume.max())  # NaN or infinity in the volume shows up in these two
    if not np.isfinite([lowest, highest]).all():
        raise ValueError(f"expected finite voxels, found {np.count_nonzero(~np.isfinite(volume))} NaN or infinite ones")
    if lowest == highest:
        return volume, 0.0
    # The middle of the range is already known, and it serves as well as the mean, because the columns are centred later.
    middle = lowest / 2 + highest / 2
    scale = highest / 2 - lowest / 2
    precision = np.float32 if volume.dtype == np.float32 and 1e-30 < scale < 1e30 else np.float64
    centred = np.subtract(volume, precision(middle), dtype=precision)
    centred /= precision(scale)
    return centred.astype(np.float32, copy=False), scale


def _resized(volume: np.ndarray, size: int) -> np.ndarray:
    """``skimage.transform.resize(volume, (size,) * 3, anti_aliasing=True)``, one matrix product per axis, for speed."""
    for axis in sorted(range(3), key=lambda axis: -volume.shape[axis]):  # the axis that shrinks most first
        if volume.shape[axis] != size:
            matrix = _resize_matrix(volume.shape[axis], size)
            volume = np.moveaxis(np.matmul(matrix, np.moveaxis(volume, axis, -2)), -2, axis)
    return np.ascontiguousarray(volume)


def _principal_components(rows: np.ndarray, explained_variance: float) -> np.ndarray:
    """Return the (size, k) components that ``sklearn.decomposition.PCA(explained_variance)`` finds in the centred rows.

    The covariance is size × size and there are many rows, so its eigenvectors cost a tenth of the full SVD; scikit-learn makes
    the same choice. We do it here because scikit-learn's second centring and input checks take as long as the rest, and because
    its rule for the signs, on which the distances depend, has changed between versions.
    """
    variances, vectors = np.linalg.eigh(rows.T @ rows)
    variances, vectors = np.maximum(variances[::-1], 0).astype(np.float64), vectors[:, ::-1]
    kept = np.searchsorted(np.cumsum(variances) / variances.sum(), explained_variance, side="right") + 1
    vectors = vectors[:, :kept]
    largest = np.abs(vectors).argmax(axis=0)
    return vectors * np.sign(vectors[largest, np.arange(vectors.shape[1])])


@lru_cache(maxsize=64)
def _resize_matrix(length: int, size: int) -> np.ndarray:
    """Return the (size, length) matrix that resizes one axis: smoothing and linear interpolation are linear and separable."""
    return resize(np.eye(length), (size, length), order=1, anti_aliasing=True).astype(np.float32)


def _checked_distances(distances: np.ndarray) -> np.ndarray:
    distances = np.asarray(distances, dtype=np.float64)
    if distances.ndim != 2 or distances.shape[0] != distances.shape[1] or distances.size == 0:
        raise ValueError(f"expected distances of shape (n, n) with n >= 1, found shape {distances.shape}")
    if not (np.isfinite(distances).all() and (distances >= 0).all()):
        raise ValueError("expected finite, non-negative distances, found others")
    return distances
