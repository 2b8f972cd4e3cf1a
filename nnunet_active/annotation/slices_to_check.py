"""Finds where to look first: the slices per axis with the most uncertainty in and around the prediction, and the most uncertain place.

All of this is our choice. Uncertainty far from the prediction (the edge of the scan, the skull) is mostly of no interest, so only
voxels within ``NEAR`` steps of the prediction count. If nothing is predicted, the whole scan counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation, uniform_filter

NEAR = 3  # voxels around the prediction
SLICES = 3  # per axis
_PLACE_MM = 6.0  # side of the cube around the worst place; a single voxel would be noise


@dataclass(frozen=True)
class WorthLooking:
    """The slices to check, and the most uncertain place; indices count from 0.

    Attributes:
        slices: slices per axis (x, y, z), most uncertain first.
        voxel: (x, y, z) of the most uncertain place.
        nats: mean uncertainty of the cube around it.
    """

    slices: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    voxel: tuple[int, int, int]
    nats: float


def worth_looking(
    prediction: np.ndarray, uncertainty: np.ndarray, spacing: tuple[float, float, float], count: int = SLICES
) -> WorthLooking:
    """Find the slices to check and the most uncertain place.

    Args:
        prediction: (Z, Y, X) label map.
        uncertainty: (Z, Y, X) float32, nats.
        spacing: mm along (x, y, z).
        count: slices per axis.
    """
    near, offset = _near(prediction)
    box = tuple(slice(start, start + length) for start, length in zip(offset, near.shape, strict=True))
    counted = np.where(near, uncertainty[box], 0)
    per_axis = [_apart(counted.sum(axis=tuple({0, 1, 2} - {axis})), count) for axis in range(3)]
    per_axis = [tuple(index + offset[axis] for index in found) for axis, found in enumerate(per_axis)]
    cube = [max(1, round(_PLACE_MM / step)) for step in spacing[::-1]]
    smooth = np.where(near, uniform_filter(uncertainty[box], size=cube, mode="nearest"), -1)
    worst = np.unravel_index(int(smooth.argmax()), smooth.shape)
    voxel = tuple(int(index + start) for index, start in zip(worst, offset, strict=True))
    return WorthLooking(tuple(per_axis[::-1]), voxel[::-1], float(smooth[worst]))


def _near(prediction: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """A mask of the prediction's neighbourhood in a box, and the start of the box."""
    foreground = prediction > 0
    if not foreground.any():
        return np.ones(prediction.shape, dtype=bool), (0, 0, 0)
    starts, stops = [], []
    for axis in range(3):
        filled = np.flatnonzero(foreground.any(axis=tuple({0, 1, 2} - {axis})))
        starts.append(max(0, int(filled[0]) - NEAR))
        stops.append(int(filled[-1]) + 1 + NEAR)
    box = tuple(slice(start, stop) for start, stop in zip(starts, stops, strict=True))
    return binary_dilation(foreground[box], iterations=NEAR), tuple(starts)


def _apart(totals: np.ndarray, count: int) -> list[int]:
    """Indices of the largest totals, kept apart, since neighbouring slices show the same thing."""
    gap = max(1, len(totals) // 10)
    left, found = totals.astype(float), []
    while len(found) < count and left.max() > 0:
        index = int(left.argmax())
        found.append(index)
        left[max(0, index - gap) : index + gap + 1] = 0
    return found
