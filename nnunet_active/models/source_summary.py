r"""A summary of where the source domain lies in embedding space. The owner of the source scans makes it and ships it with the model.

k-means clusters the embeddings of the source cases (deepest encoder features, averaged per case). For each cluster the summary holds
the number of cases, the centroid and a shrunk covariance (Ledoit-Wolf), in the units of the features. It holds no image, no case
identifier and no file name, and no cluster with fewer than ``minimum`` cases. ``docs/source-summary.md`` says what it still reveals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.cluster import KMeans
from sklearn.covariance import LedoitWolf

from nnunet_active.models.source_model import SUMMARY, source_folder
from nnunet_active.util.atomic import atomic_file
from nnunet_active.util.errors import ActiveError, IncompatibleSource, MissingInput

FORMAT = 1
MINIMUM_CASES = 3
MOST_CLUSTERS = 8


@dataclass(frozen=True)
class SourceSummary:
    """Clusters of source-domain embeddings.

    Attributes:
        centroids: (k, d) float32.
        covariances: (k, d, d) float32, symmetric, positive semi-definite.
        counts: (k,) int64, cases per cluster, each at least ``minimum``.
        digest: of the source network's weights (:func:`nnunet_active.nnunet.safe_checkpoint.weights_digest`).
        configuration: nnU-Net configuration of that network.
        minimum: the smallest cluster size that was allowed.
    """

    centroids: np.ndarray
    covariances: np.ndarray
    counts: np.ndarray
    digest: str
    configuration: str
    minimum: int = MINIMUM_CASES

    def arrays(self) -> Mapping[str, np.ndarray]:
        """The arrays for query strategies."""
        return {"centroids": self.centroids, "covariances": self.covariances, "counts": self.counts}


def summarise(
    embeddings: np.ndarray,
    digest: str,
    configuration: str,
    clusters: int | None = None,
    minimum: int = MINIMUM_CASES,
    seed: int = 0,
) -> SourceSummary:
    """Cluster embeddings and keep the clusters that are large enough.

    Args:
        embeddings: (n, d), one row per source case; their order leaves no trace.
        digest: of the network that made them.
        configuration: its nnU-Net configuration.
        clusters: k before small clusters are left out; by default one for every five cases, at most 8 (our choice).
        minimum: smaller clusters are not written; must be at least 3.
        seed: of k-means.

    Raises:
        ActiveError: fewer cases than ``minimum``, ``minimum`` below 3, values that are not finite, or no cluster that is large enough.
    """
    embeddings = np.asarray(embeddings, dtype=np.float64)
    n = len(embeddings)
    if minimum < MINIMUM_CASES:
        raise ActiveError(
            f"A summary of clusters of {minimum} cases would come close to single scans; the floor is {MINIMUM_CASES}."
        )
    if n < minimum:
        raise ActiveError(f"A source summary needs at least {minimum} cases, found {n}; add source images.")
    if not np.isfinite(embeddings).all():
        raise ActiveError("The embeddings of the source cases hold NaN or infinite values; check the source network.")
    wanted = clusters if clusters is not None else min(MOST_CLUSTERS, n // 5)
    wanted = max(1, min(wanted, n // minimum, len(np.unique(embeddings, axis=0))))
    embeddings = embeddings[np.lexsort(embeddings.T[::-1])]  # so that their original order leaves no trace
    labels = KMeans(wanted, n_init=10, random_state=seed).fit_predict(embeddings)
    counts = np.bincount(labels, minlength=wanted)
    kept = [int(c) for c in np.argsort(-counts, kind="stable") if counts[c] >= minimum]
    if not kept:
        raise ActiveError(
            f"None of the {wanted} clusters of {n} source cases holds {minimum} cases; ask for fewer --clusters."
        )
    members = [embeddings[labels == c] for c in kept]
    return SourceSummary(
        centroids=np.stack([rows.mean(0) for rows in members]).astype(np.float32),
        covariances=np.stack([LedoitWolf().fit(rows).covariance_ for rows in members]).astype(np.float32),
        counts=counts[kept].astype(np.int64),
        digest=digest,
        configuration=configuration,
        minimum=minimum,
    )


def write_summary(summary: SourceSummary, file: Path) -> None:
    """Write the ``.npz``, whole or not at all."""
    with atomic_file(file) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(
            stream,
            format=np.array(FORMAT),
            centroids=summary.centroids,
            covariances=summary.covariances,
            counts=summary.counts,
            digest=np.array(summary.digest),
            configuration=np.array(summary.configuration),
            minimum=np.array(summary.minimum),
        )


def read_summary(file: Path, digest: str | None = None) -> SourceSummary:
    """Read a summary and check its contents; no code in the file is run.

    Args:
        file: a file from :func:`write_summary`.
        digest: of the source network's weights; None skips this check.

    Raises:
        MissingInput: the file does not exist.
        IncompatibleSource: it was made with another network.
        ActiveError: it is damaged, of a later version, or its shapes or values make no sense.
    """
    file = Path(file)
    if not file.is_file():
        raise MissingInput(f"The source summary {file} was not found.")
    try:
        with np.load(file, allow_pickle=False) as content:
            found = int(content["format"])
            if found > FORMAT:
                raise ActiveError(
                    f"{file} has format {found}, this version reads up to {FORMAT}; update nnunet_active."
                )
            summary = SourceSummary(
                np.asarray(content["centroids"], dtype=np.float32),
                np.asarray(content["covariances"], dtype=np.float32),
                np.asarray(content["counts"], dtype=np.int64),
                str(content["digest"]),
                str(content["configuration"]),
                int(content["minimum"]),
            )
    except ActiveError:
        raise
    except Exception as error:  # zip, zlib and NumPy raise very different errors for a damaged file
        raise ActiveError(
            f"{file} is not a source summary ({error}); make it with nnunet_active summarize-source."
        ) from error
    k, d = summary.centroids.shape if summary.centroids.ndim == 2 else (0, 0)
    sound = k > 0 and summary.covariances.shape == (k, d, d) and summary.counts.shape == (k,)
    if not sound or not all(np.isfinite(values).all() for values in summary.arrays().values()):
        raise ActiveError(
            f"{file} is not a source summary (centroids of shape {summary.centroids.shape}, covariances of shape "
            f"{summary.covariances.shape}); make it with nnunet_active summarize-source."
        )
    if digest is not None and summary.digest != digest:
        raise IncompatibleSource(
            f"The source summary {file} was made with another network than the source model (weights {summary.digest[:8]}, "
            f"the model has {digest[:8]}); make it anew with nnunet_active summarize-source -m of this model."
        )
    return summary


def summary_file(dataset_folder: Path, plans: str, configuration: str) -> Path:
    """Where the summary of a campaign's source network is kept."""
    return source_folder(dataset_folder, plans, configuration) / SUMMARY
