"""Packs predicted classes into a few bytes, to keep beside the scores, and measures how far apart two predictions of a case are.

A label map consists of long runs of equal numbers, so compression leaves about a hundredth of the voxels' bytes.
"""

from __future__ import annotations

import io
import zlib

import numpy as np

from nnunet_active.scoring.jaccard import jaccard_distance


def pack(predicted: np.ndarray) -> np.ndarray:
    """Predicted classes as bytes (n,) uint8.

    Args:
        predicted: (Z, Y, X) integers from 0 to 65535, or (R, Z, Y, X) bool for regions.
    """
    small = predicted
    if predicted.dtype != bool:
        small = predicted.astype(np.uint8 if predicted.max(initial=0) < 256 else np.uint16)
    stream = io.BytesIO()
    np.save(stream, np.packbits(small, axis=0) if small.dtype == bool else small, allow_pickle=False)
    heads = len(small) if small.dtype == bool else 0
    return np.frombuffer(heads.to_bytes(2, "little") + zlib.compress(stream.getvalue(), 1), dtype=np.uint8)


def unpack(packed: np.ndarray) -> np.ndarray:
    """The array that :func:`pack` packed, label maps in the smallest unsigned type.

    Raises:
        ValueError: the bytes are not a packed prediction.
    """
    content = packed.tobytes()
    try:
        array = np.load(io.BytesIO(zlib.decompress(content[2:])), allow_pickle=False)
    except (zlib.error, EOFError) as error:
        raise ValueError("these bytes are no packed prediction") from error
    heads = int.from_bytes(content[:2], "little")
    return np.unpackbits(array, axis=0, count=heads).astype(bool) if heads else array


def class_distances(one: np.ndarray, other: np.ndarray, classes: int) -> np.ndarray:
    """The Jaccard distance (:mod:`~nnunet_active.scoring.jaccard`) of every foreground class of two predictions, (classes,) float64.

    Args:
        one, other: from :func:`unpack`, of one shape.
        classes: number of foreground classes (label values 1 to ``classes``) or of regions.
    """
    if one.dtype == bool:
        return np.array([jaccard_distance(one[c], other[c]) for c in range(classes)])
    return np.array([jaccard_distance(one == c, other == c) for c in range(1, classes + 1)])
