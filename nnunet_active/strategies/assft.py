"""ASSFT's query: unlearned and diverse (DKD), and difficult in the foreground (ASD)."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax

from nnunet_active.errors import ActiveError
from nnunet_active.strategies.anchors import pseudo_source_anchors, source_centroids
from nnunet_active.strategies.base import QueryStrategy, ScoredPool, Selection, Steps
from nnunet_active.strategies.geometry import cosine_distance, minmax, nearest_distance, unit_rows

CHOICES = {
    "gap": ("anchor", "drift", "prediction", "source"),
    "diversity": ("greedy", "static"),
    "dkd": ("product", "sum"),
    "region": ("predicted", "class_balanced", "soft"),
    "combine": ("sum", "product"),
}
REGION_COLUMN = {
    "predicted": "foreground_entropy",
    "class_balanced": "class_balanced_entropy",
    "soft": "soft_foreground_entropy",
}


class AssftStrategy(QueryStrategy):
    """Far from the source, diverse (DKD), and difficult in the foreground (ASD).

    Q(x) = n(DKD(x)) + lambda n(ASD(x)); n(.) is min-max over the candidates of this query, constant -> zeros.

    The paper (arXiv 2509.10784) names DKD and ASD and says what they measure; none of its equations is public text, so
    every formula here is our reading and has a switch:

    * DKD = n(KD) * n(Div), or with ``dkd="sum"`` n(KD) + n(Div)
    * knowledge gap KD, ``gap``:
      ``anchor`` distance of z0(x) to the nearest pseudo-source anchor; ``drift`` Jensen-Shannon divergence (nats) of
      softmax(z0 / tau) and softmax(zt / tau), zero in round 1; ``prediction`` the column ``kl_source``, the mean voxel KL of
      source and current predictions; ``source`` distance to the nearest centroid of the source summary
    * diversity Div = min over labelled l of 1 - cos(z(x), z(l)), where ``greedy`` counts the picks so far as labelled and
      ``static`` does not; with nothing labelled yet, the distance to the candidates' mean
    * ASD = mean voxel entropy over ``region``: ``predicted`` foreground (column foreground_entropy), ``class_balanced``
      (class_balanced_entropy) or ``soft`` (soft_foreground_entropy, also the value where nothing is predicted)
    * support: a(x) = (f a(x) + n0 mean(a)) / (f + n0), f = predicted foreground voxels, n0 = ``support``: a handful of uncertain
      voxels cannot win by itself, an empty prediction has the pool's mean; ``floor``: with fewer voxels ASD is the
      pool's minimum
    * ``combine="product"``: Q = n(DKD) * n(ASD)^lambda

    Arrays: ``embedding`` is zt, the current network's; ``source_embedding`` is z0, the frozen source network's; without
    it z0 = zt (true in round 1; a note says so). Cost: O(n (k + m + b) d).
    """

    name = "assft"
    needs = frozenset({"predictions", "embedding"})
    paper = "ASSFT, arXiv 2509.10784"
    cost = "O(n (k + m + b) d)"

    def __init__(
        self,
        lambda_: float = 1.0,
        combine: str = "sum",
        gap: str = "anchor",
        diversity: str = "greedy",
        dkd: str = "product",
        region: str = "predicted",
        support: float = 500.0,
        floor: float = 0.0,
        anchors: int = 8,
        anchor_fraction: float = 0.2,
        temperature: float = 1.0,
    ):
        """See the class for the switches.

        Args:
            lambda_: weight of ASD.
            combine: how DKD and ASD make Q: ``sum`` or ``product``.
            gap: ``anchor``, ``drift``, ``prediction`` or ``source``.
            diversity: ``greedy`` or ``static``.
            dkd: how KD and Div make DKD: ``product`` or ``sum``.
            region: ``predicted``, ``class_balanced`` or ``soft``.
            support: n0, in voxels; 0 switches the shrinkage off.
            floor: fewest predicted foreground voxels for an ASD of one's own.
            anchors: number of pseudo-source anchors.
            anchor_fraction: share of the surest cases that the anchors come from.
            temperature: tau of ``drift``.
        """
        options = {"gap": gap, "diversity": diversity, "dkd": dkd, "region": region, "combine": combine}
        for option, value in options.items():
            if value not in CHOICES[option]:
                raise ActiveError(f"assft: {option} is '{value}'; choose one of {', '.join(CHOICES[option])}.")
        self.lambda_ = lambda_
        self.combine, self.gap, self.diversity, self.dkd, self.region = combine, gap, diversity, dkd, region
        self.support, self.floor = support, floor
        self.anchors, self.anchor_fraction, self.temperature = anchors, anchor_fraction, temperature
        self.columns = (REGION_COLUMN[region], "foreground_voxels")
        if gap == "anchor":
            self.columns += ("mean_entropy",)
        if gap == "prediction":
            self.columns += ("kl_source",)
        if gap == "source":
            self.needs = self.needs | {"source_summary"}

    def _select(self, pool: ScoredPool, n: int, rng: np.random.Generator) -> Selection:
        notes: tuple[str, ...] = ()
        if "source_embedding" not in pool.arrays and self.gap in ("anchor", "drift", "source"):
            notes += ("No embedding by the source network: the current network's is used, as in round 1.",)
        knowledge_gap = self._knowledge_gap(pool, rng)
        if self.gap == "drift" and not minmax(knowledge_gap).any():
            notes += ("The network has not drifted from the source: the knowledge gap is zero for every case.",)
        difficulty = self._difficulty(pool)
        z = unit_rows(pool.embedding())
        diversity, has_reference = self._first_diversity(z, pool)
        gap, hard = minmax(knowledge_gap), minmax(difficulty)
        first_diversity = diversity
        steps = Steps(pool, n)
        for _ in range(n):
            spread = minmax(diversity)
            picked = steps.pick(self._score(gap * spread if self.dkd == "product" else gap + spread, hard))
            if self.diversity == "greedy":
                to_pick = cosine_distance(z, z[picked])
                diversity = np.minimum(diversity, to_pick) if has_reference else to_pick
                has_reference = True
        components = {"knowledge_gap": knowledge_gap, "diversity": first_diversity, "difficulty": difficulty}
        return steps.selection(components, notes)

    def _score(self, dkd: np.ndarray, hard: np.ndarray) -> np.ndarray:
        if self.combine == "sum":
            return minmax(dkd) + self.lambda_ * hard
        return minmax(dkd) * hard**self.lambda_

    def _knowledge_gap(self, pool: ScoredPool, rng: np.random.Generator) -> np.ndarray:
        if self.gap == "prediction":
            return pool.column("kl_source")
        z0 = pool.embedding("source_embedding" if "source_embedding" in pool.arrays else "embedding")
        if self.gap == "source":
            return nearest_distance(z0, source_centroids(pool, z0.shape[1]))
        if self.gap == "anchor":
            return nearest_distance(z0, pseudo_source_anchors(pool, z0, self.anchors, self.anchor_fraction, rng))
        then, now = (softmax(z / self.temperature, axis=1) for z in (z0, pool.embedding()))
        # scipy gives the square root of the divergence, and NaN for a tiny negative rounding error.
        return np.nan_to_num(jensenshannon(then, now, axis=1)) ** 2

    def _difficulty(self, pool: ScoredPool) -> np.ndarray:
        foreground = np.maximum(pool.column("foreground_voxels"), 0.0)
        own = pool.column(REGION_COLUMN[self.region], missing=np.nan)
        if "soft_foreground_entropy" in pool.scores.columns:
            own = np.where(np.isfinite(own), own, pool.column("soft_foreground_entropy", missing=np.nan))
        supported = np.isfinite(own) & (foreground > 0)
        mean = own[supported].mean() if supported.any() else 0.0
        own = np.where(np.isfinite(own), own, mean)
        if self.support > 0:
            own = (foreground * own + self.support * mean) / (foreground + self.support)
        enough = foreground >= self.floor
        if self.floor > 0 and enough.any():
            own = np.where(enough, own, own.min())
        return own

    def _first_diversity(self, z: np.ndarray, pool: ScoredPool) -> tuple[np.ndarray, bool]:
        """Div before the first pick, and whether it is measured from labelled cases."""
        labelled = pool.labelled_embedding()
        if not len(labelled):
            return cosine_distance(z, pool.embedding().mean(axis=0)), False
        return np.min([cosine_distance(z, reference) for reference in labelled], axis=0), True
