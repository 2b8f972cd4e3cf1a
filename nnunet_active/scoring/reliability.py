r"""How far to trust a pseudo-label: the network's confidence in it, and the distance of its case to the labelled cases.

ASSFT (arXiv 2509.10784) keeps pseudo-labels "based on predictive confidence and semantic distance to labeled samples"; its equations
are not public text, so these are our reading:

* conf(x) = mean over the predicted foreground of max_c p(v)  (the column ``confidence`` of :mod:`nnunet_active.scoring.statistics`)
* dist(x) = min over labelled l of 1 - cos(z(x), z(l)), in [0, 2], z the embedding by the network that made the pseudo-label
* reliable: among the n eligible cases, the ceil(q n) most confident AND the ceil(f n) nearest

Our choices where the paper is silent: a case without predicted foreground is eligible only on request; its confidence is then the mean
of max_c p over all voxels. Cases tied at a cut-off all count, so neither their order nor their names decide. The cosine to a
zero embedding is 0. Without a labelled case or an embedding, confidence decides alone.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

_TIE = 1e-9  # confidences and cosines come from float32; a difference this small does not count


def semantic_distance(z: np.ndarray, labelled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosine distance of each case to the nearest labelled one.

    Args:
        z: (n, d) embeddings of the cases.
        labelled: (m, d) embeddings of the labelled cases by the same network.

    Returns:
        dist (n,) float64 in [0, 2], and the index (n,) of the nearest labelled case (ties: the first); with none: NaN and -1.

    Raises:
        ValueError: the widths differ.

    >>> semantic_distance(np.array([[1.0, 0], [0, 2], [0, 0]]), np.array([[3.0, 0]]))[0].tolist()
    [0.0, 1.0, 1.0]
    """
    z, labelled = (np.asarray(values, dtype=np.float64) for values in (z, labelled))
    if not len(labelled):
        return np.full(len(z), np.nan), np.full(len(z), -1)
    if z.ndim != 2 or labelled.ndim != 2 or z.shape[1] != labelled.shape[1]:
        raise ValueError(
            f"embeddings of shape {z.shape} cannot be compared with labelled ones of shape {labelled.shape}"
        )
    distance = 1.0 - _unit(z) @ _unit(labelled).T
    nearest = distance.argmin(axis=1)
    return distance[np.arange(len(z)), nearest].clip(0.0, 2.0), nearest


def reliability(
    confidence: np.ndarray,
    distance: np.ndarray,
    empty: np.ndarray,
    confident_fraction: float = 0.5,
    nearer_fraction: float = 0.5,
    allow_empty: bool = False,
) -> pd.DataFrame:
    """Which of n pseudo-labels are reliable.

    Args:
        confidence: (n,) conf(x); a case with NaN is never confident.
        distance: (n,) dist(x). If every value is NaN, distance does not count; if some are, those cases are never near.
        empty: (n,) bool: nothing is predicted.
        confident_fraction: q, of the eligible cases.
        nearer_fraction: f, of the eligible cases.
        allow_empty: whether empty predictions are eligible.

    Returns:
        One row per case: bool ``eligible``, ``confident``, ``near``, ``reliable`` (all three).
    """
    confidence, distance = (np.asarray(values, dtype=np.float64) for values in (confidence, distance))
    eligible = np.isfinite(confidence) & (~np.asarray(empty, dtype=bool) | allow_empty)
    confident = _lowest(-confidence, eligible, confident_fraction)
    near = _lowest(distance, eligible, nearer_fraction)
    if not np.isfinite(distance).any():
        near = np.ones(len(distance), dtype=bool)
    columns = {"eligible": eligible, "confident": confident & eligible, "near": near & eligible}
    return pd.DataFrame({**columns, "reliable": eligible & confident & near})


def _lowest(values: np.ndarray, eligible: np.ndarray, fraction: float) -> np.ndarray:
    """The ceil(fraction n) lowest of the n eligible values, plus all that equal the last of them."""
    known = np.sort(values[eligible & np.isfinite(values)])
    # in floating point 0.1 * 30 is 3.0000000000000004, which must still give 3 cases
    count = min(len(known), math.ceil(fraction * int(eligible.sum()) - 1e-9))
    if count < 1:
        return np.zeros(len(values), dtype=bool)
    cut = known[count - 1]
    return eligible & (values <= cut + _TIE * max(1.0, abs(cut)))


def _unit(rows: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
