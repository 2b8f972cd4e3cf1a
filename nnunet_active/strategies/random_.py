"""Uniform random choice."""

from __future__ import annotations

import numpy as np

from nnunet_active.strategies.base import ScoreStrategy
from nnunet_active.strategies.pool import ScoredPool


class RandomStrategy(ScoreStrategy):
    """Every case has the same chance.

    utility(x) ~ U[0, 1), the highest are picked.

    Paper: none; the weakest baseline. Cost: O(n).
    """

    name = "random"
    needs = frozenset()
    paper = "-"
    cost = "O(n)"

    def utility(self, pool: ScoredPool, rng: np.random.Generator) -> np.ndarray:
        """A uniform random number for each case."""
        return rng.random(len(pool))
