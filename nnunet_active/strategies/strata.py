"""Strata: a typical case, drawn at random, from each part of the pool that has no label yet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_active.strategies.base import QueryStrategy, Selection, Steps
from nnunet_active.strategies.foreground_random import predicted_classes
from nnunet_active.strategies.pool import ScoredPool
from nnunet_active.strategies.vectors import cluster, neighbours, unit_rows
from nnunet_active.util.errors import ActiveError

MAX_CLUSTERS = 500
USUAL, VOLUMES = 0.8, (5, 95)
ROUNDS, CONFIDENCE = 2, ("soft_dice_confidence", "confidence")
NO_CLASSES = "No features of the predicted classes: typicality uses the whole image."


class StrataStrategy(QueryStrategy):
    """Typical cases of parts without a label, drawn at random; outliers are left out.

    1. Embeddings are scaled to length 1; candidates and labelled cases form min(m + b, 500) k-means clusters.
    2. Each step takes the cluster with the fewest labelled or picked cases, and among those the largest.
    3. It draws a case of that cluster with q(x) = (1 - ``uniform``) [t(x)^(1 - r) h(x)^r]^``power`` p(x) / sum + ``uniform`` / size,
       or 1 / size if the sum is 0.
       t(x) = 1 / mean distance to the min(10, size / 2) nearest candidates of the cluster, in the features of the predicted
       classes (``class_mean``, side by side, length 1). p(x) = 1 if the prediction is plausible: it shows every class that 80 % of
       the pool show, and its volume lies between the pool's 5th and 95th percentile. r = 0 until two rounds have brought labels,
       then r = min(1/2, m / 10) with m labelled cases. h(x) in (0, 1] is the rank of x in the cluster by difficulty, 1 - soft Dice
       confidence, divided by the cluster's size.

    Of each patient (``--groups``), the scan nearest to the patient's other scans is the candidate. Records: ``probability`` of each
    pick at its step (of a case not picked: at the first step), given the clusters, which the seed decides, too; ``cluster``,
    ``cluster_size`` (how many cases a pick represents), and ``doubt``, the difficulty, if it counts. utility = ln q + Gumbel noise,
    which draws with the probabilities q.
    Paper: none, our own; ``docs/measured.md`` measures the first pick, three labels and difficulty.
    Cost: O(n (m + b) d + n^2 d / (m + b)).
    """

    name = "strata"
    needs = frozenset({"predictions", "embedding"})
    uses = frozenset({"class_mean"})
    columns = ("foreground_voxels",)
    paper = "-"
    cost = "O(n (m + b) d + n^2 d / (m + b))"
    draws = True

    def __init__(self, power: float = 4.0, uniform: float = 0.1, neighbours: int = 10):
        """Args: power: how sharp the draw is; uniform: share of the uniform draw; neighbours: for typicality."""
        if not 0 < uniform <= 1 or power < 0 or neighbours < 1:
            raise ActiveError("strata: uniform has to lie in (0, 1], power at 0 or above, neighbours at 1 or above.")
        self.power, self.uniform, self.neighbours = power, uniform, neighbours

    def _select(self, pool: ScoredPool, n: int, rng: np.random.Generator) -> Selection:
        labelled = pool.labelled_embedding()
        everything = unit_rows(np.concatenate([pool.embedding(), labelled]))
        label = cluster(everything, min(len(labelled) + n, MAX_CLUSTERS), rng)[0]
        own, size = label[: len(pool)], np.bincount(label)
        explored = np.bincount(label[len(pool) :], minlength=len(size))
        features, good, hard = by_class(pool), plausible(pool), doubt(pool)
        share = 0.0 if hard is None else min(0.5, len(pool.labelled_cases) / 10)
        noise = rng.gumbel(size=(n, len(pool)))
        steps, chance, made = Steps(pool, n), np.zeros(len(pool)), None
        for step in range(n):
            left = ~steps.picked
            open_ = np.bincount(own[left], minlength=len(size))
            # lexsort: fewest labels, then largest; clusters with no candidate left come last.
            target = np.lexsort((np.arange(len(size)), -size, explored, open_ == 0))[0]
            q = self.probabilities(features, left & (own == target), good, hard, share)
            made = q if made is None else made
            picked = steps.pick(np.log(np.maximum(q, 1e-300)) + np.where(q > 0, noise[step], 0.0))
            chance[picked] = q[picked]
            explored[own[picked]] += 1
        chance = np.where(steps.picked, chance, made)
        found = {"probability": chance, "cluster": own, "cluster_size": size[own], "plausible": good}
        found |= {} if hard is None else {"doubt": hard}
        return steps.selection(found, () if "class_mean" in pool.arrays else (NO_CLASSES,))

    def probabilities(
        self,
        z: np.ndarray,
        candidates: np.ndarray,
        good: np.ndarray,
        hard: np.ndarray | None = None,
        share: float = 0.0,
    ) -> np.ndarray:
        """q(x), (n,), for a draw among ``candidates`` (n,) bool; ``good`` (n,) bool marks the plausible cases.

        Args:
            z: (n, d) features for typicality.
            candidates, good: see above.
            hard: difficulty, (n,); None if it does not count.
            share: r, the weight of difficulty.
        """
        from scipy.stats import rankdata  # not at the top, as in vectors

        members = np.flatnonzero(candidates)
        weight = typicality(z[members], self.neighbours)
        weight = weight / weight.max()
        if hard is not None and share:
            weight = weight ** (1 - share) * (rankdata(hard[members].round(9)) / len(members)) ** share
        weight = weight**self.power * good[members]
        q = np.zeros(len(z))
        q[members] = 1 / len(members)
        if weight.any():
            q[members] = (1 - self.uniform) * weight / weight.sum() + self.uniform / len(members)
        return q

    def _scans(self, pool: ScoredPool, patients: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
        z = by_class(pool)
        return np.array([medoid(z, rows) for rows in patients])


def by_class(pool: ScoredPool) -> np.ndarray:
    """Features of the predicted foreground classes side by side, rows of length 1, (n, classes d); else the embedding, (n, d).

    A case in which a class is not predicted gets the mean of the cases that show the class.
    """
    if "class_mean" not in pool.arrays or "class_volume" not in pool.arrays:
        return unit_rows(pool.embedding())
    mean = np.asarray(pool.arrays["class_mean"], dtype=np.float64)[:, pool.first_class :]
    shown = predicted_classes(pool)
    usual = (mean * shown[..., None]).sum(axis=0) / np.maximum(shown.sum(axis=0), 1)[:, None]
    return unit_rows(np.where(shown[..., None], mean, usual).reshape(len(pool), -1))


def doubt(pool: ScoredPool) -> np.ndarray | None:
    """1 - soft Dice confidence of every case, (n,), 1 if nothing is predicted; None until two rounds have brought labels."""
    column = next((name for name in CONFIDENCE if name in pool.scores), None)
    return None if pool.answered < ROUNDS or column is None else 1 - pool.column(column)


def medoid(z: np.ndarray, members: np.ndarray) -> int:
    """The member nearest to the others; ties: the one nearest to the mean of all rows of ``z``, then the first."""
    apart = np.linalg.norm(z[members][:, None] - z[members][None], axis=2).sum(axis=1).round(9)
    return int(members[np.lexsort((np.linalg.norm(z[members] - z.mean(axis=0), axis=1), apart))[0]])


def typicality(z: np.ndarray, nearest: int = 10) -> np.ndarray:
    """1 / mean distance to the min(``nearest``, n / 2) nearest other rows, (n,); 1 if there is no other row.

    >>> typicality(np.array([[0.0], [1.0], [2.0], [9.0]]), 1).round(3).tolist()
    [1.0, 1.0, 1.0, 0.143]
    """
    k = min(nearest, len(z) // 2)
    return 1 / np.maximum(neighbours(z, k)[0].mean(axis=1), 1e-9) if k else np.ones(len(z))


def plausible(pool: ScoredPool) -> np.ndarray:
    """Every class that 80 % of the pool show is predicted, and the volume lies in the pool's 5th to 95th percentile; (n,) bool."""
    shown, volume = predicted_classes(pool), pool.column("foreground_voxels")
    usual = shown[:, shown.mean(axis=0) >= USUAL].all(axis=1)
    low, high = np.percentile(volume, VOLUMES)
    return usual & (volume > 0) & (low <= volume) & (volume <= high)
