"""The density of every case of a pool of any size; see :mod:`nnunet_active.scoring.density` for the formulas.

Up to `MOST_EXACT` cases follow the formulas exactly. In a larger pool, all pairs would give hundreds of millions of distances, each a
sum over thousands of bins. There:

* the radius comes from `MOST_EXACT` cases drawn from the pool (seed 0);
* neighbouring bins are merged until at most `MOST_BINS` are left over all modalities. W of merged bins never exceeds W, and
  differs only in bins in which two quantile functions cross;
* distances are counted block by block and not kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial.distance import cdist

from nnunet_active.scoring.density import default_radius, neighbour_counts, pairwise_distances

MOST_EXACT = 2000
"""Up to this many cases, every distance is computed by its definition: 32 MB in all, within a few seconds."""
MOST_BINS = 512
_ROWS = 256  # rows of a block: 20 MB for 10,000 cases


def neighbours_in_pool(signatures: Sequence[np.ndarray]) -> tuple[np.ndarray, float]:
    """How many cases of the pool lie within the radius of each case, itself included.

    Args:
        signatures: n of (M, bins), from :func:`~nnunet_active.scoring.density.case_signature`.

    Returns:
        (n,) int64, and the radius in the images' intensity unit; the density is that count over n.
    """
    n = len(signatures)
    if n <= MOST_EXACT:
        distances = pairwise_distances(np.stack(signatures))
        radius = default_radius(distances)
        return neighbour_counts(distances, radius), radius
    flat = np.concatenate([merged_bins(one[None]) for one in signatures])  # one by one: together they may be gigabytes
    drawn = np.sort(np.random.default_rng(0).choice(n, MOST_EXACT, replace=False))
    radius = default_radius(pairwise_distances(flat[drawn][:, None]))
    counts = np.ones(n, dtype=np.int64)
    for start in range(0, n, _ROWS):
        stop = min(start + _ROWS, n)
        near = cdist(flat[start:stop], flat[start:], "cityblock") / flat.shape[1] < radius
        near[np.tri(stop - start, n - start, dtype=bool)] = False  # each pair once
        counts[start:stop] += near.sum(axis=1)
        counts[start:] += near.sum(axis=0)
    return counts, radius


def merged_bins(signatures: np.ndarray) -> np.ndarray:
    """Merge signatures (n, M, bins) into (n, M * b) with M * b <= `MOST_BINS`, by means over groups of neighbouring bins.

    >>> merged_bins(np.arange(4.0 * MOST_BINS).reshape(1, 2, -1))[0, :3]
    array([1.5, 5.5, 9.5])
    """
    n, modalities, bins = signatures.shape
    width = -(-modalities * bins // MOST_BINS)
    while bins % width:
        width += 1
    return signatures.reshape(n, modalities, bins // width, width).mean(axis=3).reshape(n, -1)
