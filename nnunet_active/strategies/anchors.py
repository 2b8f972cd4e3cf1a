"""Where the source domain lies in embedding space: its shipped summary, or anchors guessed from the target."""

from __future__ import annotations

import numpy as np

from nnunet_active.strategies.pool import ScoredPool
from nnunet_active.strategies.vectors import cluster, on_grid
from nnunet_active.util.errors import ActiveError


def source_side_embedding(pool: ScoredPool) -> np.ndarray:
    """Embeddings in the space of the source summary, float64 (n, d): by the frozen source network, else by the current one."""
    return pool.embedding("source_embedding" if "source_embedding" in pool.arrays else "embedding")


def source_centroids(pool: ScoredPool, width: int) -> np.ndarray:
    """The summary's centroids, float64 (k, width).

    Raises:
        ActiveError: the centroids and the target's embeddings differ in width.
    """
    centroids = np.asarray(pool.source_summary["centroids"], dtype=np.float64)
    if centroids.ndim != 2 or centroids.shape[1] != width:
        raise ActiveError(
            f"The source summary's centroids have the shape {centroids.shape}, the target's embeddings have width "
            f"{width}; make the summary with the network that scores the target."
        )
    return centroids


def pseudo_source_anchors(
    pool: ScoredPool, z: np.ndarray, k: int, fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """Anchors (k', d): k-means centroids of the ``fraction`` of cases with the lowest entropy under the source model.

    The cases with the lowest entropy look most like the source model's training data (our choice, after ASSFT's description).
    The entropy is the column ``source_mean_entropy``, or ``mean_entropy`` if the pool lacks that column or the source has
    no trained head. At least ``min(k, n)`` cases are used; the case identifier breaks ties.
    """
    by_source = "source_mean_entropy" in pool.scores.columns and pool.source_head_trained
    column = "source_mean_entropy" if by_source else "mean_entropy"
    entropy = pool.column(column, missing=np.inf)
    count = min(len(pool), max(k, int(np.ceil(fraction * len(pool)))))
    surest = np.argsort(on_grid(entropy), kind="stable")[:count]
    return cluster(z[surest], k, rng)[1]
