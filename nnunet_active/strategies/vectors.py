"""Small geometry helpers that several strategies share: scaling, cosines, clusters, distances in chunks.

This module and the strategies import SciPy and scikit-learn inside functions: the import takes a second, and the list of
strategies is printed without them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import numpy as np

from nnunet_active.strategies.base import Steps

CHUNK_BYTES = 128 << 20
"""The largest block of a pairwise matrix held at once; no (n, n) array is ever made."""


def minmax(values: np.ndarray) -> np.ndarray:
    """n(.): scale (n,) linearly to [0, 1]; a constant vector becomes zeros, never NaN.

    >>> minmax(np.array([2.0, 4.0, 3.0])).tolist(), minmax(np.array([5.0, 5.0])).tolist()
    ([0.0, 1.0, 0.5], [0.0, 0.0])
    """
    values = np.asarray(values, dtype=np.float64)
    low, high = values.min(), values.max()
    # Differences at rounding level do not count; scaled up they would decide the ranking.
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        return np.zeros_like(values)
    return (values - low) / (high - low)


def unit_rows(x: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, (n, d); a zero row stays zero, so that its cosine to anything is 0."""
    from sklearn.preprocessing import normalize

    return normalize(np.asarray(x, dtype=np.float64))


def cosine_distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """1 - cos of each row of ``x`` (n, d) to the vector ``y`` (d,): (n,) in [0, 2]; 1 where either is zero."""
    return np.clip(1.0 - unit_rows(x) @ unit_rows(y[None])[0], 0.0, 2.0)


def chunks(n: int, width: int) -> Iterator[slice]:
    """Slices of range(n), so that a block (rows, width) of float64 stays within ``CHUNK_BYTES``."""
    rows = max(1, CHUNK_BYTES // (8 * max(1, width)))
    return (slice(start, min(start + rows, n)) for start in range(0, n, rows))


def mean_over_pairs(x: np.ndarray, function: Callable[[np.ndarray], np.ndarray], squared: bool = False) -> np.ndarray:
    """For each row i of ``x`` (n, d): the mean over all j of function(euclidean distance of x_i and x_j). O(n^2 d), O(n) memory."""
    from sklearn.metrics.pairwise import euclidean_distances

    x = x - x.mean(axis=0)  # distances come from a matrix product, which is accurate only near the origin
    mean = np.empty(len(x))
    for rows in chunks(len(x), len(x)):
        distances = euclidean_distances(x[rows], x, squared=squared)
        own = np.arange(rows.start, rows.stop)
        distances[own - rows.start, own] = 0.0
        mean[rows] = function(distances).mean(axis=1)
    return mean


def on_grid(values: np.ndarray) -> np.ndarray:
    """Values (n,) in units of the largest finite magnitude, rounded to 12 digits, so that rounding errors of earlier steps are ties."""
    largest = np.abs(values[np.isfinite(values)]).max(initial=0.0)
    return np.round(values / largest, 12) if largest else values


def nearest_distance(x: np.ndarray, references: np.ndarray, squared: bool = False) -> np.ndarray:
    """Euclidean distance of each row of ``x`` (n, d) to the nearest row of ``references`` (k, d): (n,), exactly 0 for equal rows."""
    from sklearn.metrics import pairwise_distances_argmin

    # The matrix product finds the nearest reference; the difference then gives a distance without its rounding error.
    centre = references.mean(axis=0)
    difference = x - references[pairwise_distances_argmin(x - centre, references - centre)]
    nearest = np.einsum("nd,nd->n", difference, difference)
    return nearest if squared else np.sqrt(nearest)


def distance_to(x: np.ndarray, y: np.ndarray, squared: bool = False) -> np.ndarray:
    """Euclidean distance of each row of ``x`` (n, d) to ``y`` (d,): (n,), exactly 0 for equal rows."""
    from scipy.spatial.distance import cdist

    return cdist(x, y[None], "sqeuclidean" if squared else "euclidean")[:, 0]


def neighbours(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances and indices, (n, k') each, of the k' = min(k, n - 1) nearest other rows (euclidean; a row is not its own neighbour);
    exactly 0 for equal rows."""
    from sklearn.neighbors import NearestNeighbors

    k = min(k, len(x) - 1)
    if k < 1:
        return np.zeros((len(x), 0)), np.zeros((len(x), 0), dtype=np.int64)
    found = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(x).kneighbors(return_distance=False)
    # as in nearest_distance: the differences give distances without the rounding error of the matrix product
    return np.stack([np.linalg.norm(x - x[column], axis=1) for column in found.T], axis=1), found


def cluster(
    x: np.ndarray, k: int, rng: np.random.Generator, weights: np.ndarray | None = None, restarts: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """k-means: labels (n,) and centres (k', d), with k' = min(k, n). Identical points leave some clusters empty."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    k_means = KMeans(min(k, len(x)), n_init=restarts, random_state=int(rng.integers(2**31 - 1)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than clusters is defined, see above
        k_means.fit(x, sample_weight=weights)
    return k_means.labels_.astype(np.int64), k_means.cluster_centers_


def pick_nearest_per_centre(
    steps: Steps, x: np.ndarray, centres: np.ndarray, eligible: np.ndarray | None = None
) -> None:
    """For each centre (k, d) in turn pick the nearest case not yet picked; the utility is minus the distance.

    Cases outside ``eligible`` (n,) bool are pushed below all eligible ones by the span of the distances.
    """
    for centre in centres[: steps.remaining]:
        utility = -distance_to(x, centre)
        if eligible is not None:
            utility = np.where(eligible, utility, utility - (utility.max() - utility.min()) - 1.0)
        steps.pick(utility)
