"""Uniform random choice."""

from __future__ import annotations

import numpy as np

from nnunet_active.strategies.base import ScoreStrategy, Selection, Steps
from nnunet_active.strategies.pool import ScoredPool


class RandomStrategy(ScoreStrategy):
    """Every case has the same chance.

    utility(x) ~ U[0, 1), the highest are picked. Records the ``probability`` of each pick at its step, 1 / cases left.

    Paper: none; the weakest baseline. Cost: O(n).
    """

    name = "random"
    needs = frozenset()
    paper = "-"
    cost = "O(n)"
    draws = True

    def utility(self, pool: ScoredPool, rng: np.random.Generator) -> np.ndarray:
        """A uniform random number for each case."""
        return rng.random(len(pool))

    def _select(self, pool: ScoredPool, n: int, rng: np.random.Generator) -> Selection:
        steps = Steps(pool, n)
        steps.pick_highest(self.utility(pool, rng))
        chance = np.full(len(pool), 1 / len(pool))
        chance[steps.order] = 1 / (len(pool) - np.arange(n))
        return steps.selection({"probability": chance})
