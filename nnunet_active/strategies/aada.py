"""AADA: uncertain cases that do not look like the source."""

from __future__ import annotations

import numpy as np

from nnunet_active.strategies.anchors import source_centroids, source_side_embedding
from nnunet_active.strategies.base import QueryStrategy, Selection, Steps
from nnunet_active.strategies.pool import ScoredPool


class AadaStrategy(QueryStrategy):
    """Uncertain cases that a domain discriminator tells from the source.

    utility(x) = (1 - D(x)) / D(x) * H(x), D(x) = probability that x comes from the source.

    D is a logistic regression with both domains weighted equally and standardised inputs. It separates the target's embeddings
    (those of the frozen source network if the pool has them, because the source summary lives in their space) from the source
    summary: ``samples`` draws from each centroid's Gaussian if the summary has ``covariances``, otherwise the centroids. D is
    clipped to [``clip``, 1 - ``clip``] to keep the weight finite. Without a source summary the rule reduces to H (mean voxel
    entropy), and a note says so.

    Adapted: AADA trains D against the feature extractor with source images; here a summary stands for the source and the
    network is not trained (our choice). A case without a finite entropy counts as 0.
    Paper: AADA, Su et al., WACV 2020. Cost: O(n d) for each step of the solver.
    """

    name = "aada"
    needs = frozenset({"predictions"})
    batch_aware = False
    uses = frozenset({"embedding", "source_embedding", "source_summary"})
    columns = ("mean_entropy",)
    paper = "AADA, Su et al., WACV 2020"
    cost = "O(n d)"

    def __init__(self, samples: int = 50, clip: float = 0.01):
        """Args: samples: draws for each source centroid with a covariance; clip: bound of D away from 0 and 1."""
        self.samples = samples
        self.clip = clip

    def _select(self, pool: ScoredPool, n: int, rng: np.random.Generator) -> Selection:
        entropy = pool.column("mean_entropy")
        notes: tuple[str, ...] = ()
        if pool.has_source_summary and {"embedding", "source_embedding"} & pool.arrays.keys():
            source = self._source_probability(pool, rng)
        else:
            source = np.full(len(pool), 0.5)
            notes = ("No source summary or no embeddings: aada reduces to entropy.",)
        weight = (1.0 - source) / source
        utility = weight * entropy
        steps = Steps(pool, n)
        steps.pick_highest(utility)
        return steps.selection({"entropy": entropy, "source_probability": source, "weight": weight}, notes)

    def _source_probability(self, pool: ScoredPool, rng: np.random.Generator) -> np.ndarray:
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        target = source_side_embedding(pool)
        source = self._source_points(pool, target.shape[1], rng)
        x = np.concatenate([source, target])
        is_source = np.arange(len(x)) < len(source)
        x = StandardScaler().fit_transform(x)
        discriminator = LogisticRegression(class_weight="balanced", max_iter=500).fit(x, is_source)
        probability = discriminator.predict_proba(x[len(source) :])[:, 1]
        return np.clip(probability, self.clip, 1.0 - self.clip)

    def _source_points(self, pool: ScoredPool, width: int, rng: np.random.Generator) -> np.ndarray:
        centroids = source_centroids(pool, width)
        covariances = pool.source_summary.get("covariances")
        if covariances is None or len(covariances) != len(centroids):
            return centroids
        draws = [
            rng.multivariate_normal(centre, covariance, size=self.samples, method="eigh", check_valid="ignore")
            for centre, covariance in zip(centroids, np.asarray(covariances, dtype=np.float64), strict=True)
        ]
        return np.concatenate(draws)
