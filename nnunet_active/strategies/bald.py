"""BALD: mutual information between the prediction and the model."""

from __future__ import annotations

import numpy as np

from nnunet_active.strategies.base import ScoreStrategy
from nnunet_active.strategies.pool import ScoredPool


class BaldStrategy(ScoreStrategy):
    """Highest mutual information between prediction and model first.

    utility(x) = mean over voxels of H(mean_k p_k) - mean_k H(p_k), in nats.

    The members k of the ensemble are folds or mirrored passes. Adapted to whole cases: the mean over all voxels (our
    choice). A case without a finite value counts as 0. Paper: Houlsby et al. 2011, arXiv 1112.5745. Cost: O(n).
    """

    name = "bald"
    needs = frozenset({"predictions", "ensemble"})
    columns = ("mutual_information",)
    paper = "BALD, Houlsby et al. 2011, arXiv 1112.5745"
    cost = "O(n), after one pass per ensemble member"

    def utility(self, pool: ScoredPool, rng: np.random.Generator) -> np.ndarray:
        """The column ``mutual_information``."""
        return pool.column("mutual_information")
