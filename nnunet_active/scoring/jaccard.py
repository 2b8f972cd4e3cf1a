r"""The Jaccard distance of two masks, and how it bounds the difference between two predictions' IoU.

d(A, B) = 1 - |A and B| / |A or B|, and 0 where both are empty. It is a metric (Kosub, Pattern Recognition Letters 2019,
arXiv:1612.02696), and IoU(A, B) = 1 - d(A, B). By the triangle inequality, for every truth Y, known or not,

    |IoU(Y, A) - IoU(Y, B)| <= d(A, B).

The bound holds for means too: over cases and labels, the mean IoU of two networks differs by at most the mean distance of their
predictions. This needs no label. (Dice is not such a metric. If truth and prediction are both empty, IoU is 1.)
"""

from __future__ import annotations

import numpy as np


def jaccard_distance(one: np.ndarray, other: np.ndarray) -> float:
    """d(A, B) of the formula above, in [0, 1].

    Args:
        one, other: bool, of one shape.

    >>> jaccard_distance(np.array([True, True, False]), np.array([True, False, False]))
    0.5
    """
    union = np.count_nonzero(one | other)
    return float(1 - np.count_nonzero(one & other) / union) if union else 0.0
