"""mmActS: informativeness times representativeness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_active.strategies.base import ScoreStrategy
from nnunet_active.strategies.pool import ScoredPool
from nnunet_active.util.errors import ActiveError

COLUMNS = {"u": "mean_entropy", "a": "foreground_voxels", "rho": "density"}


class MmActSStrategy(ScoreStrategy):
    """Uncertain, with much predicted foreground, and typical: the sequential query.

    S(x) = I(x) * rho(x) with I(x) = u(x) * a(x).

    * u(x) = mean voxel entropy over all voxels, in nats (column ``mean_entropy``) [paper and authors' code]
    * a(x) = number of predicted foreground voxels (``foreground_voxels``) [product: authors' code; raw count: our reading].
      Scaling a by its maximum or sum keeps the ranking; min-max scaling would not.
    * rho(x) = share of the target pool within a distance delta of x (``density``, computed once from the images) [our reading]

    The paper queries one case per round with the current model; n > 1 picks at once are the n highest, its "one-off"
    variant. A case with an empty prediction or a missing factor has S = 0: it comes last and never causes an error.
    ``factors`` can leave factors out to show what each contributes; without rho no density is computed. The paper itself
    names the bias toward large tumours as a limitation. Paper: arXiv 2508.20528. Cost: O(n).
    """

    name = "mmacts"
    needs = frozenset({"predictions", "density"})
    paper = "mmActS, arXiv 2508.20528"
    cost = "O(n)"

    def __init__(self, factors: Sequence[str] = ("u", "a", "rho")) -> None:
        """Args: factors: which of ``u``, ``a`` and ``rho`` S multiplies."""
        self.factors = tuple(factors)
        if not self.factors or set(self.factors) - COLUMNS.keys():
            raise ActiveError(f"mmacts: the factors are {', '.join(self.factors) or 'none'}; choose some of u, a, rho.")
        self.columns = tuple(column for name, column in COLUMNS.items() if name in self.factors)
        self.needs = frozenset({"predictions", "density"} if "rho" in self.factors else {"predictions"})

    def utility(self, pool: ScoredPool, rng: np.random.Generator) -> np.ndarray:
        """S(x)."""
        return np.prod([pool.column(column) for column in self.columns], axis=0)

    def components(self, pool: ScoredPool) -> dict[str, np.ndarray]:
        """``u``, ``a``, ``informativeness`` = u * a, and ``rho``, as far as ``factors`` names them."""
        found = {name: pool.column(column) for name, column in COLUMNS.items() if column in self.columns}
        if {"u", "a"} <= found.keys():
            rho = {"rho": found.pop("rho")} if "rho" in found else {}
            found |= {"informativeness": found["u"] * found["a"], **rho}
        return found
