r"""Maps slices of the preprocessed array to slices of the stored image, through all that nnU-Net does in between.

nnU-Net reads the file (some readers turn it to a common orientation), transposes, crops to the nonzero voxels and resamples. Along one
axis, with a crop that starts at voxel b, is L voxels long and is resampled to N slices, the preprocessed slice i covers

    [b + i L / N, b + (i + 1) L / N)

of the reader's axis, whose slice j covers [j, j + 1). Sums are divided among stored slices by the share of the overlap, so totals are
preserved; without resampling (L = N), every slice has exactly one counterpart.

The axes of the stored image are called x, y and z: the first, second and third of the file. Slices are counted from 0 here, in
order in which the file stores them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

AXES = ("x", "y", "z")
NUMPY_AXIS = {"x": 2, "y": 1, "z": 0}
"""Axis of an array (Z, Y, X) in file order."""

_SAME_SPACING = 0.01  # relative; programs round spacings when they save


@dataclass(frozen=True)
class SliceMap:
    """The slices along one axis of a stored image.

    Attributes:
        axis: ``x``, ``y`` or ``z``.
        slices: how many the file has.
        spacing: mm from one to the next.
        preprocessed_axis: that axis in the preprocessed array (Z, Y, X).
        reader_axis: that axis in the reader's array (Z, Y, X).
        flipped: whether the reader counts from the other end.
        start, length: the crop on the reader's axis.
        resampled: number of slices of the preprocessed array.
    """

    axis: str
    slices: int
    spacing: float
    preprocessed_axis: int
    reader_axis: int
    flipped: bool
    start: int
    length: int
    resampled: int

    def overlap(self) -> np.ndarray:
        """(slices, resampled) float64: the share of each preprocessed slice that lies in each stored one; columns add up to 1.

        >>> SliceMap("z", 4, 3.0, 0, 0, False, 1, 2, 4).overlap().tolist()
        [[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]
        """
        step = self.length / self.resampled
        edges = self.start + step * np.arange(self.resampled + 1)
        stored = np.arange(self.slices)[:, None]
        shared = np.minimum(edges[1:], stored + 1) - np.maximum(edges[:-1], stored)
        # overlaps within rounding are none: a slice that only touches the next one has no share in it
        share = np.where(shared > 1e-6 * step, np.clip(shared, 0, None), 0.0) / step
        share /= share.sum(axis=0, keepdims=True)
        return share[::-1] if self.flipped else share

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sums per stored slice, (slices,) float64, from sums per preprocessed slice, (resampled,); the total is preserved."""
        return self.overlap() @ np.asarray(values, dtype=np.float64)

    def means(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Means per stored slice, (slices,) float64, from weighted means per preprocessed slice; 0 where all weights are 0.

        Args:
            values: (resampled,) means.
            weights: (resampled,) number of voxels behind each mean.
        """
        weight = self.sums(weights)
        total = self.sums(np.asarray(values, dtype=np.float64) * weights)
        return np.divide(total, weight, out=np.zeros(self.slices), where=weight > 0)

    def stored_slice(self, index: int) -> int:
        """The stored slice that contains the middle of a preprocessed slice."""
        found = int(self.start + (index + 0.5) * self.length / self.resampled)
        return self.slices - 1 - found if self.flipped else found

    def in_reader(self, slices: Iterable[int]) -> list[int]:
        """The same slices with the numbers and order of the reader's array."""
        return sorted(self.slices - 1 - index if self.flipped else index for index in slices)

    def is_imaged(self) -> np.ndarray:
        """(slices,) bool: whether any part of a stored slice remains after the crop to nonzero voxels."""
        return self.overlap().any(axis=1)


def slice_maps(
    properties: Mapping[str, Any],
    transpose_forward: Sequence[int],
    shape: Sequence[int],
    to_file_order: Callable[[np.ndarray, Mapping[str, Any]], np.ndarray] | None = None,
) -> dict[str, SliceMap]:
    """The slices of a stored image along its three axes.

    Args:
        properties: what nnU-Net recorded for the case: ``spacing`` (in the reader's order), ``shape_before_cropping``,
            ``bbox_used_for_cropping`` and ``shape_after_cropping_and_before_resampling`` (transposed).
        transpose_forward: of the plans.
        shape: (Z, Y, X) of the preprocessed array.
        to_file_order: turns a reader's array into file order; None if the reader does not turn images.

    Returns:
        ``x``, ``y`` and ``z`` -> its map.
    """
    turned = dict(zip((0, 1, 2), ((0, False), (1, False), (2, False)), strict=True))
    if to_file_order is not None:
        turned = _turned(lambda marker: to_file_order(marker, properties))
    found = {}
    for axis in AXES:
        reader_axis, flipped = turned[NUMPY_AXIS[axis]]
        transposed = list(transpose_forward).index(reader_axis)
        first, last = properties["bbox_used_for_cropping"][transposed]
        found[axis] = SliceMap(
            axis,
            int(properties["shape_before_cropping"][transposed]),
            float(properties["spacing"][reader_axis]),
            transposed,
            reader_axis,
            flipped,
            int(first),
            int(last) - int(first),
            int(shape[transposed]),
        )
    return found


def axis_in_reader(axis: str, to_file_order: Callable[[np.ndarray], np.ndarray]) -> tuple[int, bool]:
    """The axis of the reader's array (Z, Y, X) that is ``x``, ``y`` or ``z`` of the file, and whether it runs the other way."""
    return _turned(to_file_order)[NUMPY_AXIS[axis]]


def _turned(to_file_order: Callable[[np.ndarray], np.ndarray]) -> dict[int, tuple[int, bool]]:
    """For each axis of the file's array: the axis of the reader's array, and whether it runs the other way."""
    sizes = (2, 3, 4)  # all different, so that the length identifies each axis
    there = to_file_order(np.arange(24, dtype=np.int16).reshape(sizes))
    found = {}
    for axis, length in enumerate(there.shape):
        first, second = there.take(0, axis), there.take(1, axis)
        found[axis] = sizes.index(length), bool(second.flat[0] < first.flat[0])
    return found


def choose_axis(spacing: Mapping[str, float], wanted: str = "auto") -> str:
    """The axis of the slices to ask for.

    Args:
        spacing: mm along ``x``, ``y`` and ``z``.
        wanted: one of these, or ``auto``: the axis of the largest spacing; if two share it (within 1 %), the third, z.

    Raises:
        ValueError: any other word.

    >>> choose_axis({"x": 5.0, "y": 0.7, "z": 0.7})
    'x'
    >>> choose_axis({"x": 1.0, "y": 1.0, "z": 0.5})
    'z'
    """
    if wanted in AXES:
        return wanted
    if wanted != "auto":
        raise ValueError(f"the axis is '{wanted}'; it must be auto, x, y or z")
    largest = max(spacing.values())
    found = [axis for axis in AXES if spacing[axis] >= largest * (1 - _SAME_SPACING)]
    return found[0] if len(found) == 1 else "z"


def map_along(maps: Mapping[str, SliceMap], wanted: str) -> SliceMap:
    """The map of a scan (from :func:`slice_maps`) along the axis of :func:`choose_axis`."""
    return maps[choose_axis({axis: maps[axis].spacing for axis in AXES}, wanted)]
