"""Random choice among cases in which something is predicted, with every predicted class covered."""

from __future__ import annotations

import numpy as np

from nnunet_active.strategies.base import QueryStrategy, Selection, Steps
from nnunet_active.strategies.pool import ScoredPool


class ForegroundRandomStrategy(QueryStrategy):
    """Random among cases with predicted foreground, every class covered; hard to beat.

    Each step takes the class that the picks so far cover least (ties: at random) and draws uniformly among the cases in
    which that class is predicted; cases without predicted foreground come last.
    utility(x) = 1[class predicted in x] + U[0, 1). Records the ``probability`` of each pick at its step, given the earlier picks
    (for a case not picked: at the first step): the mean, over the least covered classes, of 1 / cases left that show the
    class if the case shows it, else 0. If the head is untrained, nothing counts as predicted and each draw is uniform.

    Adapted to whole cases: nnActive draws patches from the (known) foreground; here the prediction decides, and the
    classes take turns (our choice). Classes come from the array ``class_volume`` (n, C), without the background; if it is
    missing, all foreground is one class. Paper: nnActive, TMLR 2025. Cost: O(b n C).
    """

    name = "foreground_random"
    needs = frozenset({"predictions"})
    columns = ("foreground_voxels",)
    paper = "Foreground-aware random: nnActive, TMLR 2025"
    cost = "O(b n C)"
    draws = True

    def _select(self, pool: ScoredPool, n: int, rng: np.random.Generator) -> Selection:
        present = predicted_classes(pool) & pool.head_trained
        steps = Steps(pool, n)
        covered, chance, at_first = np.zeros(present.shape[1]), np.zeros(len(pool)), None
        while steps.remaining:
            left = ~steps.picked
            open_classes = np.flatnonzero(present[left].any(axis=0))
            utility, q = rng.random(len(pool)), left / left.sum()
            if len(open_classes):
                least = open_classes[covered[open_classes] == covered[open_classes].min()]
                utility = utility + present[:, rng.choice(least)]
                shown = present[:, least] & left[:, None]
                q = (shown / shown.sum(axis=0)).mean(axis=1)
            at_first = q if at_first is None else at_first
            picked = steps.pick(utility)
            chance[picked] = q[picked]
            covered += present[picked]
        chance = np.where(steps.picked, chance, at_first)
        return steps.selection({"predicted_classes": present.sum(axis=1), "probability": chance})


def predicted_classes(pool: ScoredPool) -> np.ndarray:
    """Which foreground classes are predicted in which case, bool (n, classes); (n, 1) without volumes per class."""
    volume = pool.arrays.get("class_volume")
    if volume is not None and volume.ndim == 2 and volume.shape[1] > pool.first_class:
        return np.asarray(volume)[:, pool.first_class :] > 0
    return pool.column("foreground_voxels")[:, None] > 0
