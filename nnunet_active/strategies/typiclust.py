"""TypiClust: typical cases of the clusters that have no label yet."""

from __future__ import annotations

import numpy as np

from nnunet_active.strategies.base import QueryStrategy, Selection, Steps
from nnunet_active.strategies.pool import ScoredPool
from nnunet_active.strategies.vectors import cluster, neighbours


class TypiClustStrategy(QueryStrategy):
    """Typical cases of unexplored clusters, made for small budgets.

    Candidates and labelled cases form min(m + b, ``max_clusters``) k-means clusters. Each step takes the cluster with the
    fewest labelled or picked cases (so first those without any), among these the largest (ties: the first), and picks its
    most typical candidate: typicality(x) = 1 / (mean distance to its min(``neighbours``, size / 2) nearest cases in the
    cluster + 1e-5).

    Our choices: no smallest cluster size (the reference drops clusters of 5 or fewer and fails on pools of tens); the case
    of a one-case cluster has the lowest typicality. utility = typicality in the cluster of that step, 0 elsewhere.
    Paper: TypiClust, Hacohen et al., ICML 2022. Cost: O(n k d) for each iteration of k-means + O(sum of size^2 d).
    """

    name = "typiclust"
    needs = frozenset({"embedding"})
    paper = "TypiClust, Hacohen et al., ICML 2022"
    cost = "O(n (m + b) d + n^2 d / (m + b))"

    def __init__(self, neighbours: int = 20, max_clusters: int = 500):
        """Args: neighbours: how many nearest cases typicality uses; max_clusters: the most clusters made."""
        self.neighbours = neighbours
        self.max_clusters = max_clusters

    def _select(self, pool: ScoredPool, n: int, rng: np.random.Generator) -> Selection:
        z, labelled = pool.embedding(), pool.labelled_embedding()
        everything = np.concatenate([z, labelled])
        labels = cluster(everything, min(len(labelled) + n, self.max_clusters), rng, restarts=1)[0]
        typicality = self._typicality(everything, labels)[: len(pool)]
        size = np.bincount(labels)
        explored = np.bincount(labels[len(pool) :], minlength=len(size))
        candidates = np.bincount(labels[: len(pool)], minlength=len(size))
        own = labels[: len(pool)]
        steps = Steps(pool, n)
        for _ in range(n):
            # lexsort: fewest labels, then largest; clusters with no candidate left come last.
            target = np.lexsort((np.arange(len(size)), -size, explored, candidates == 0))[0]
            picked = steps.pick(np.where(own == target, typicality, 0.0))
            explored[own[picked]] += 1
            candidates[own[picked]] -= 1
        return steps.selection({"typicality": typicality, "cluster": own, "cluster_size": size[own]})

    def _typicality(self, x: np.ndarray, labels: np.ndarray) -> np.ndarray:
        mean_distance = np.full(len(x), np.nan)
        for label in np.unique(labels):
            members = np.flatnonzero(labels == label)
            if len(members) > 1:
                k = max(1, min(self.neighbours, len(members) // 2))
                mean_distance[members] = neighbours(x[members], k)[0].mean(axis=1)
        alone = np.isnan(mean_distance)
        mean_distance[alone] = mean_distance[~alone].max() if (~alone).any() else 0.0
        return 1.0 / (mean_distance + 1e-5)
