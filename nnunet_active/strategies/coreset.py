"""Core-set: farthest first."""

from __future__ import annotations

import numpy as np

from nnunet_active.strategies.base import QueryStrategy, Selection, Steps
from nnunet_active.strategies.pool import ScoredPool
from nnunet_active.strategies.vectors import distance_to, mean_over_pairs, nearest_distance


class CoresetStrategy(QueryStrategy):
    """Farthest first: each step takes the case farthest from everything labelled or picked.

    utility(x) = min over labelled and picked l of |z(x) - z(l)|. With nothing labelled, the first pick is the medoid, the
    case with the smallest mean distance to all (our choice); its utility is minus that mean. Adapted to whole cases: one
    embedding per case. Paper: Sener & Savarese, ICLR 2018. Cost: O((m + b) n d); the medoid O(n^2 d) in chunks.
    """

    name = "coreset"
    needs = frozenset({"embedding"})
    paper = "Sener & Savarese, ICLR 2018"
    cost = "O((m + b) n d); nothing labelled: + O(n^2 d)"

    def _select(self, pool: ScoredPool, n: int, rng: np.random.Generator) -> Selection:
        z, labelled = pool.embedding(), pool.labelled_embedding()
        steps = Steps(pool, n)
        notes: tuple[str, ...] = ()
        if len(labelled):
            distance = nearest_distance(z, labelled)
        else:
            distance = np.full(len(pool), np.inf)
            medoid = steps.pick(-mean_over_pairs(z, lambda distances: distances))
            distance = np.minimum(distance, distance_to(z, z[medoid]))
            notes = ("Nothing is labelled: the first pick is the medoid.",)
        start = distance.copy()
        while steps.remaining:
            picked = steps.pick(distance)
            distance = np.minimum(distance, distance_to(z, z[picked]))
        return steps.selection({"distance": start}, notes)
