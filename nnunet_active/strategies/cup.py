"""CUP: uncertain first, then large."""

from __future__ import annotations

import numpy as np

from nnunet_active.strategies.base import QueryStrategy, Selection, Steps
from nnunet_active.strategies.pool import ScoredPool
from nnunet_active.strategies.vectors import minmax, on_grid
from nnunet_active.util.errors import ActiveError


class CupStrategy(QueryStrategy):
    """The most uncertain cases first, of these the ones with the largest predicted foreground.

    Cascade: keep the ``factor`` * b cases of highest mean entropy, then pick the b with most predicted foreground.

    utility(x) = foreground voxels for kept cases; n(entropy) - 2, in [-2, -1], for the others. b is the size of this
    query (our reading: the paper's budget is spent in one query). A case without a finite entropy counts as 0.
    Adapted to whole cases: volumes instead of slices. Paper: CUP, MICCAI 2024. Cost: O(n log n).
    """

    name = "cup"
    needs = frozenset({"predictions"})
    batch_aware = False
    columns = ("mean_entropy", "foreground_voxels")
    paper = "CUP, MICCAI 2024"
    cost = "O(n log n)"

    def __init__(self, factor: float = 2.0):
        """Args: factor: the first stage keeps ``factor`` times as many cases as the query picks (>= 1)."""
        if factor < 1:
            raise ActiveError(
                f"cup: factor is {factor}; the first stage has to keep at least the number to pick (>= 1)."
            )
        self.factor = factor

    def _select(self, pool: ScoredPool, n: int, rng: np.random.Generator) -> Selection:
        entropy, foreground = pool.column("mean_entropy"), pool.column("foreground_voxels")
        kept = np.zeros(len(pool), dtype=bool)
        kept[np.argsort(-on_grid(entropy), kind="stable")[: int(np.ceil(self.factor * n))]] = True
        utility = np.where(kept, foreground, minmax(entropy) - 2.0)
        steps = Steps(pool, n)
        steps.pick_highest(utility)
        return steps.selection({"entropy": entropy, "foreground_voxels": foreground, "kept": kept})
