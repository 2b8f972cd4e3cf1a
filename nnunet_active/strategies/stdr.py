"""STDR: the cases farthest from the source, and the nearest ones."""

from __future__ import annotations

import numpy as np

from nnunet_active.strategies.anchors import pseudo_source_anchors, source_centroids, source_side_embedding
from nnunet_active.strategies.base import QueryStrategy, Selection, Steps
from nnunet_active.strategies.pool import ScoredPool
from nnunet_active.strategies.vectors import nearest_distance


class StdrStrategy(QueryStrategy):
    """Half the cases farthest from the source, half nearest to it.

    Dual reference: with s(x) = min over source points q of mean_d (v_d(x) - q_d)^2, take the ceil(b/2) cases with the
    largest s (source-dissimilar), then the floor(b/2) with the smallest (target-typical near the source).

    * v(x) = class-weighted pooled feature: the mean over the predicted classes of ``class_mean`` (n, C, d), so that a small
      tumour weighs as much as the background; without ``class_mean``, the plain ``embedding`` (our reading).
    * source points: the centroids shipped with the source model, compared with ``source_embedding`` (the same space), or with
      ``embedding`` if that is missing; without centroids, pseudo-source anchors: k-means centroids of v over the cases with the
      lowest entropy under the source model (our choice).

    utility = s in the first half, -s in the second. Paper: STDR, TMI 2024. Cost: O(n k d).
    """

    name = "stdr"
    needs = frozenset({"predictions", "embedding"})
    uses = frozenset({"class_mean", "source_embedding", "source_summary"})
    columns = ("mean_entropy",)
    paper = "STDR, IEEE TMI 2024"
    cost = "O(n k d)"

    def __init__(self, anchors: int = 8, anchor_fraction: float = 0.2):
        """Args: anchors: number k of pseudo-source anchors; anchor_fraction: share of surest cases they come from."""
        self.anchors = anchors
        self.anchor_fraction = anchor_fraction

    def _select(self, pool: ScoredPool, n: int, rng: np.random.Generator) -> Selection:
        notes: tuple[str, ...] = ()
        if pool.has_source_summary:
            feature = source_side_embedding(pool)
            points = source_centroids(pool, feature.shape[1])
        else:
            feature = class_weighted_feature(pool)
            points = pseudo_source_anchors(pool, feature, self.anchors, self.anchor_fraction, rng)
            notes = ("No source summary: the surest target cases stand in for the source.",)
        distance = nearest_distance(feature, points, squared=True) / feature.shape[1]
        steps = Steps(pool, n)
        for step in range(n):
            steps.pick(distance if step < (n + 1) // 2 else -distance)
        return steps.selection({"source_distance": distance}, notes)


def class_weighted_feature(pool: ScoredPool) -> np.ndarray:
    """v(x), float64 (n, d): mean of ``class_mean`` over the classes predicted in x, else the embedding."""
    if "class_mean" not in pool.arrays:
        return pool.embedding()
    class_mean = np.asarray(pool.arrays["class_mean"], dtype=np.float64)
    present = np.any(class_mean != 0, axis=2)  # a class that is not predicted has no features
    if "class_volume" in pool.arrays:
        present = np.asarray(pool.arrays["class_volume"]) > 0
    weight = present / np.maximum(present.sum(axis=1, keepdims=True), 1)
    return np.einsum("nc,ncd->nd", weight, class_mean)
