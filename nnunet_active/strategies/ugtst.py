"""UGTST's selection: uncertain first, then one per cluster."""

from __future__ import annotations

import numpy as np

from nnunet_active.strategies.base import QueryStrategy, Selection, Steps
from nnunet_active.strategies.pool import ScoredPool
from nnunet_active.strategies.vectors import cluster, on_grid, pick_nearest_per_centre


class UgtstStrategy(QueryStrategy):
    """The most uncertain cases, thinned out to one per cluster.

    Keep the ``factor`` * b cases with the highest aggregated uncertainty, form b clusters, pick the nearest case to each centre.

    * uncertainty(x) = mean entropy of the voxels above the first peak of x's entropy histogram, so that the many certain
      background voxels do not drown the rest. It needs the array ``entropy_histogram`` (n, bins), voxel counts
      in equal bins from 0 to ln C, and is in units of ln C. Without an inner peak, or with nothing above it: all voxels.
    * without that array: the mean over all voxels (``mean_entropy``), and a note says so.

    utility = -distance to the centre of that step, less the span of the distances for cases that were not kept; the clusters
    with the largest sum of uncertainty come first. Our reading of the paper's rule, on whole cases. A case without a
    finite entropy counts as 0. Paper: UGTST, MICCAI 2024. Cost: O(n log n + n bins + factor b^2 d + b n d).
    """

    name = "ugtst"
    needs = frozenset({"predictions", "embedding"})
    uses = frozenset({"entropy_histogram"})
    columns = ("mean_entropy",)
    paper = "UGTST, MICCAI 2024"
    cost = "O(n log n + b n d)"

    def __init__(self, factor: float = 4.0):
        """Args: factor: C; the clustering keeps C times as many cases as the query picks (>= 1)."""
        self.factor = max(1.0, factor)

    def _select(self, pool: ScoredPool, n: int, rng: np.random.Generator) -> Selection:
        notes: tuple[str, ...] = ()
        if "entropy_histogram" in pool.arrays:
            uncertainty = entropy_above_first_peak(pool.arrays["entropy_histogram"])
        else:
            uncertainty = pool.column("mean_entropy")
            notes = ("No entropy histogram: the uncertainty is the mean over all voxels.",)
        z = pool.embedding()
        kept = np.sort(np.argsort(-on_grid(uncertainty), kind="stable")[: int(np.ceil(self.factor * n))])
        labels, centres = cluster(z[kept], n, rng)
        order = np.argsort(-np.bincount(labels, weights=uncertainty[kept], minlength=len(centres)), kind="stable")
        eligible = np.zeros(len(pool), dtype=bool)
        eligible[kept] = True
        steps = Steps(pool, n)
        pick_nearest_per_centre(steps, z, centres[order], eligible)
        return steps.selection({"uncertainty": uncertainty, "kept": eligible}, notes)


def entropy_above_first_peak(histogram: np.ndarray) -> np.ndarray:
    """Mean of the bin centres (bins span [0, 1]) above the first inner peak of each row of ``histogram`` (n, bins): (n,).

    >>> entropy_above_first_peak(np.array([[1, 9, 0, 4], [4, 0, 0, 0]])).tolist()
    [0.875, 0.125]
    """
    from scipy.signal import find_peaks

    histogram = np.asarray(histogram, dtype=np.float64)
    centres = (np.arange(histogram.shape[1]) + 0.5) / histogram.shape[1]
    result = np.zeros(len(histogram))
    for i, counts in enumerate(histogram):
        peaks = find_peaks(counts)[0]
        above = counts * (np.arange(len(counts)) > peaks[0]) if len(peaks) else counts
        if not above.any():
            above = counts
        result[i] = above @ centres / above.sum() if above.any() else 0.0
    return result
