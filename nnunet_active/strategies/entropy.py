"""Uncertainty of one prediction: entropy, margin and least confidence, averaged over all voxels of a case."""

from __future__ import annotations

import numpy as np

from nnunet_active.strategies.base import ScoreStrategy
from nnunet_active.strategies.pool import ScoredPool


class EntropyStrategy(ScoreStrategy):
    """Highest mean voxel entropy first.

    utility(x) = (1/N) sum_v H(p(v)), in nats.

    Adapted to whole cases: voxel scores are averaged over all N voxels (our choice; nnActive uses the same mean on
    patches). A case without a finite entropy counts as 0.
    Paper: Settles, Active Learning Literature Survey, 2009. Cost: O(n).
    """

    name = "entropy"
    needs = frozenset({"predictions"})
    columns = ("mean_entropy",)
    paper = "Settles, Active Learning Literature Survey, 2009"
    cost = "O(n)"

    def utility(self, pool: ScoredPool, rng: np.random.Generator) -> np.ndarray:
        """The column ``mean_entropy``."""
        return pool.column("mean_entropy")


class MarginStrategy(ScoreStrategy):
    """Smallest mean margin between the two likeliest classes first.

    utility(x) = -(1/N) sum_v (p_top1(v) - p_top2(v)).

    Adapted to whole cases: the mean over all voxels. A case without a finite margin counts as certain (margin 1).
    Paper: Scheffer et al., IDA 2001. Cost: O(n).
    """

    name = "margin"
    needs = frozenset({"predictions"})
    columns = ("mean_margin",)
    paper = "Scheffer et al., IDA 2001"
    cost = "O(n)"

    def utility(self, pool: ScoredPool, rng: np.random.Generator) -> np.ndarray:
        """Minus the column ``mean_margin``."""
        return -pool.column("mean_margin", missing=1.0)


class LeastConfidenceStrategy(ScoreStrategy):
    """Smallest mean probability of the likeliest class first.

    utility(x) = 1 - (1/N) sum_v max_c p_c(v).

    Adapted to whole cases: the mean over all voxels. A case without a finite value counts as certain.
    Paper: Lewis & Gale, SIGIR 1994. Cost: O(n).
    """

    name = "least_confidence"
    needs = frozenset({"predictions"})
    columns = ("mean_max_probability",)
    paper = "Lewis & Gale, SIGIR 1994"
    cost = "O(n)"

    def utility(self, pool: ScoredPool, rng: np.random.Generator) -> np.ndarray:
        """One minus the column ``mean_max_probability``."""
        return 1.0 - pool.column("mean_max_probability", missing=1.0)
