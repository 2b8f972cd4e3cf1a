"""LAMDA's source-free part: picks whose distribution matches the target's."""

from __future__ import annotations

import numpy as np

from nnunet_active.strategies.base import QueryStrategy, Selection, Steps
from nnunet_active.strategies.pool import ScoredPool
from nnunet_active.strategies.vectors import distance_to, mean_over_pairs


class LamdaStrategy(QueryStrategy):
    """Picks that together are distributed like the whole target set (maximum mean discrepancy).

    Each step takes argmax_j (2/n) sum_i k_ij - [2 sum_{s in S} k_sj + k_jj] / (|S| + 1), k_ij = exp(-gamma |z_i - z_j|^2),
    which is the case that lowers MMD^2(S, target) most. gamma = 1/d by default.

    Our choices: the target set is candidates plus labelled cases, and S starts with the labelled cases (with nothing labelled,
    both are the formula's own sets). Left out: the parts of LAMDA that need source images.
    Paper: LAMDA, ECCV 2024. Cost: O(n^2 d) time for the mean similarity, O(n) memory; then O(n d) for each pick.
    """

    name = "lamda"
    needs = frozenset({"embedding"})
    paper = "LAMDA, ECCV 2024"
    cost = "O(n^2 d + b n d)"

    def __init__(self, gamma: float | None = None):
        """Args: gamma: width of the kernel; None means 1/d."""
        self.gamma = gamma

    def _select(self, pool: ScoredPool, n: int, rng: np.random.Generator) -> Selection:
        z, labelled = pool.embedding(), pool.labelled_embedding()
        everything = np.concatenate([z, labelled])
        gamma = self.gamma if self.gamma is not None else 1.0 / z.shape[1]

        def kernel(squared: np.ndarray) -> np.ndarray:
            squared *= -gamma
            return np.exp(squared, out=squared)

        attraction = 2.0 * mean_over_pairs(everything, kernel, squared=True)[: len(z)]
        to_chosen = np.zeros(len(z))  # sum over S of k_sj
        for point in labelled:
            to_chosen += kernel(distance_to(z, point, squared=True))
        steps = Steps(pool, n)
        for size in range(len(labelled), len(labelled) + n):
            picked = steps.pick(attraction - (2.0 * to_chosen + 1.0) / (size + 1))
            to_chosen += kernel(distance_to(z, z[picked], squared=True))
        return steps.selection({"mean_similarity": attraction / 2.0})
