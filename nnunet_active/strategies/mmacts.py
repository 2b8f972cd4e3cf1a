"""mmActS: informativeness times representativeness."""

from __future__ import annotations

import numpy as np

from nnunet_active.strategies.base import ScoredPool, ScoreStrategy


class MmActSStrategy(ScoreStrategy):
    """Uncertain, with much predicted foreground, and typical: the sequential query.

    S(x) = I(x) * rho(x) with I(x) = u(x) * a(x).

    * u(x) = mean voxel entropy over all voxels, in nats (column ``mean_entropy``) [paper and authors' code]
    * a(x) = number of predicted foreground voxels (``foreground_voxels``) [product: authors' code; raw count: our reading].
      Scaling a by its maximum or sum keeps the ranking; min-max scaling would not.
    * rho(x) = share of the target pool within a distance delta of x (``density``, computed once from the images) [our reading]

    The paper queries one case per round with the current model; picking n > 1 at once takes the n highest, its "one-off"
    variant. A case with an empty prediction, or a missing factor, has S = 0: it comes last and is never an error.
    The paper itself names the bias toward large tumours as a limitation. Paper: arXiv 2508.20528. Cost: O(n).
    """

    name = "mmacts"
    needs = frozenset({"predictions", "density"})
    columns = ("mean_entropy", "foreground_voxels", "density")
    paper = "mmActS, arXiv 2508.20528"
    cost = "O(n)"

    def utility(self, pool: ScoredPool, rng: np.random.Generator) -> np.ndarray:
        """S(x)."""
        factors = self.components(pool)
        return factors["informativeness"] * factors["rho"]

    def components(self, pool: ScoredPool) -> dict[str, np.ndarray]:
        """``u``, ``a``, ``informativeness`` = u * a, and ``rho``."""
        u, a, rho = (pool.column(name) for name in self.columns)
        return {"u": u, "a": a, "informativeness": u * a, "rho": rho}
