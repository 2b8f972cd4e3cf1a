"""MHPL: cases on the border of clusters, in dense neighbourhoods, not beside one another."""

from __future__ import annotations

import numpy as np

from nnunet_active.strategies.base import QueryStrategy, Selection, Steps
from nnunet_active.strategies.pool import ScoredPool
from nnunet_active.strategies.vectors import cluster, neighbours, unit_rows


class MhplStrategy(QueryStrategy):
    """Cases where clusters meet, in dense neighbourhoods, not beside one another.

    Minimum happy points: utility(x) = purity(x) * affinity(x), skipping neighbours of chosen cases.

    * purity(x) = entropy (nats) of the k-means cluster ids of x's ``neighbours`` nearest cases: high where clusters meet
    * affinity(x) = mean cosine of x to these neighbours
    * a case is skipped while one of its ``apart`` nearest cases is chosen or labelled; skipped cases lose the span of the
      scores + 1, so they come last but keep their order.

    Adapted to whole cases: the paper's pseudo-labels are image classes; here they are clusters of cases (``clusters``, at
    most a fifth of the cases, at least 2: our choice). Labelled cases are neighbours too. A lone case scores 0.
    Paper: MHPL, CVPR 2023. Cost: O(n^2 d) time in chunks, O(n k) memory.
    """

    name = "mhpl"
    needs = frozenset({"embedding"})
    paper = "MHPL, CVPR 2023"
    cost = "O(n^2 d)"

    def __init__(self, neighbours: int = 10, apart: int = 5, clusters: int = 10):
        """Args: neighbours: K; apart: none of this many nearest cases may be chosen already; clusters: number of clusters."""
        self.neighbours = neighbours
        self.apart = apart
        self.clusters = clusters

    def _select(self, pool: ScoredPool, n: int, rng: np.random.Generator) -> Selection:
        from scipy.stats import entropy

        z = unit_rows(np.concatenate([pool.embedding(), pool.labelled_embedding()]))
        count = max(2, min(self.clusters, len(z) // 5))
        ids = cluster(z, count, rng)[0]
        nearest = neighbours(z, max(self.neighbours, self.apart))[1][: len(pool)]
        near = nearest[:, : self.neighbours]
        purity, affinity = np.zeros(len(pool)), np.zeros(len(pool))
        if near.shape[1]:
            shares = (ids[near][:, :, None] == np.arange(count)).mean(axis=1)
            purity = entropy(shares, axis=1)
            affinity = np.stack([np.einsum("nd,nd->n", z[: len(pool)], z[column]) for column in near.T]).mean(axis=0)
        score = purity * affinity
        penalty = score.max() - score.min() + 1.0
        chosen = np.arange(len(z)) >= len(pool)
        steps, skipped = Steps(pool, n), 0
        for _ in range(n):
            blocked = chosen[nearest[:, : self.apart]].any(axis=1)
            picked = steps.pick(score - penalty * blocked)
            skipped += int(blocked[picked])
            chosen[picked] = True
        notes = (f"{skipped} picks lie beside an earlier one: no other case was left.",) if skipped else ()
        return steps.selection({"purity": purity, "affinity": affinity}, notes)
