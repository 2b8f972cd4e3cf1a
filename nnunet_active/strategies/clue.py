"""CLUE: clusters weighted by uncertainty."""

from __future__ import annotations

import numpy as np

from nnunet_active.strategies.base import QueryStrategy, Selection, Steps
from nnunet_active.strategies.pool import ScoredPool
from nnunet_active.strategies.vectors import cluster, pick_nearest_per_centre


class ClueStrategy(QueryStrategy):
    """Diverse and uncertain: the case nearest to each centre of an entropy-weighted k-means.

    k-means with b centres on the embeddings, each case weighted by its mean entropy; the nearest case of each centre.

    Centres come in order of the entropy in their cluster, the largest sum first (our choice: in the paper the picks are a
    set). utility = -distance to the centre of that step. A case without a finite entropy has weight 0; if all weights
    are 0 they count as equal. Adapted to whole cases: one embedding per case. Paper: CLUE, Prabhu et al., ICCV 2021.
    Cost: O(n b d) for each iteration of k-means.
    """

    name = "clue"
    needs = frozenset({"predictions", "embedding"})
    columns = ("mean_entropy",)
    paper = "CLUE, Prabhu et al., ICCV 2021"
    cost = "O(n b d)"

    def _select(self, pool: ScoredPool, n: int, rng: np.random.Generator) -> Selection:
        z, entropy = pool.embedding(), np.maximum(pool.column("mean_entropy"), 0.0)
        weights = entropy / entropy.max() if entropy.max() > 0 else np.ones(len(pool))
        labels, centres = cluster(z, n, rng, weights=np.maximum(weights, 1e-9))
        order = np.argsort(-np.bincount(labels, weights=weights, minlength=len(centres)), kind="stable")
        steps = Steps(pool, n)
        pick_nearest_per_centre(steps, z, centres[order])
        return steps.selection({"entropy": entropy})
