"""BADGE: diverse gradient embeddings."""

from __future__ import annotations

import numpy as np

from nnunet_active.strategies.base import QueryStrategy, Selection, Steps
from nnunet_active.strategies.pool import ScoredPool
from nnunet_active.strategies.vectors import distance_to


class BadgeStrategy(QueryStrategy):
    """Uncertain and diverse: k-means++ on gradient embeddings.

    g(x) = (p - onehot(argmax p)) (x) z: the first pick has the largest norm, each
    later one is drawn with probability proportional to its squared distance to the nearest pick.

    Adapted to whole cases (our choice). In a voxel predicted as c, block c of the gradient is -(1 - max p) z. Its average over
    a case uses the mean residual r(x) = 1 - mean max p for all classes and the predicted share w_c = volume_c / N:

    * with ``class_mean`` (n, C, d): g(x) = concat_c r(x) w_c(x) class_mean_c(x)
    * else: g(x) = concat_c r(x) w_c(x) z(x), z the ``embedding``
    * without ``class_volume``: one block for w_c = 1.

    utility = |g|^2 in the first step, then the squared distance; if all are zero, the draw is uniform. As in the paper, labelled
    cases play no part. Paper: BADGE, Ash et al., ICLR 2020. Cost: O(b n C d).
    """

    name = "badge"
    needs = frozenset({"predictions", "embedding"})
    uses = frozenset({"class_mean"})
    columns = ("mean_max_probability",)
    paper = "BADGE, Ash et al., ICLR 2020"
    cost = "O(b n C d)"
    draws = True

    def _select(self, pool: ScoredPool, n: int, rng: np.random.Generator) -> Selection:
        gradient = gradient_embedding(pool)
        steps = Steps(pool, n)
        squared = np.einsum("nd,nd->n", gradient, gradient)
        norm = np.sqrt(squared)
        picked = steps.pick(squared)
        distance = np.full(len(pool), np.inf)
        for _ in range(n - 1):
            new = distance_to(gradient, gradient[picked], squared=True)
            distance = np.minimum(distance, new)
            chance = distance if distance.any() else (~steps.picked).astype(np.float64)
            picked = steps.pick(distance, int(rng.choice(len(pool), p=chance / chance.sum())))
        return steps.selection({"gradient_norm": norm})


def gradient_embedding(pool: ScoredPool) -> np.ndarray:
    """g(x), float64 (n, C * d); see :class:`BadgeStrategy`."""
    residual = np.clip(1.0 - pool.column("mean_max_probability", missing=1.0), 0.0, 1.0)
    share = np.ones((len(pool), 1))
    if "class_volume" in pool.arrays:
        volume = np.asarray(pool.arrays["class_volume"], dtype=np.float64)
        # regions overlap and leave the background out, so their volumes do not add up to the image
        whole = volume.sum(axis=1) if pool.first_class or "voxels" not in pool.scores else pool.column("voxels")
        share = volume / np.maximum(whole[:, None], 1.0)
    values = pool.arrays.get("class_mean", pool.arrays["embedding"])
    feature = np.asarray(values, dtype=np.float64).reshape(len(pool), -1, values.shape[-1])
    return (residual[:, None, None] * share[:, :, None] * feature).reshape(len(pool), -1)
