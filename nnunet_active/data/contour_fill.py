"""Fills the closed contours of one slice with voxels.

A voxel belongs to the area if an odd number of contours enclose its centre. So a contour within another one is a hole, and the
channel of a keyhole has no area. Centres on a contour belong to it: programs that draw through the outermost voxels lose none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# In voxels. Coordinates written with two decimals of a millimetre are rounded to a hundredth.
ON_CONTOUR = 0.01


def fill_contours(contours: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """The voxels of an area.

    Args:
        contours: (points, 2) float64 each, (row, column) in voxels, whole numbers at the centres; closed from last to first point.
        shape: (rows, columns) of the slice.

    Returns:
        (rows, columns) bool.

    >>> fill_contours([np.array([(0.5, 0.5), (0.5, 2.5), (1.5, 2.5), (1.5, 0.5)])], (3, 4)).astype(int).tolist()
    [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    edges = np.concatenate([np.hstack([one, np.roll(one, -1, axis=0)]) for one in contours])
    low, high = np.minimum(edges[:, 0], edges[:, 2]), np.maximum(edges[:, 0], edges[:, 2])
    # half-open, so that a corner on a row of centres counts once
    rows, crossed = _at_whole(edges, np.ceil(low), np.ceil(high) - 1, shape[0])
    turns = np.zeros((shape[0], shape[1] + 1), dtype=np.int64)
    np.add.at(turns, (rows, np.clip(np.ceil(crossed), 0, shape[1]).astype(int)), 1)
    inside = np.cumsum(turns, axis=1)[:, :-1] % 2 == 1
    on_edge = np.zeros(shape, dtype=bool)
    _mark_on_edges(on_edge, edges)
    _mark_on_edges(on_edge.T, edges[:, [1, 0, 3, 2]])
    return inside | on_edge


def _mark_on_edges(mask: np.ndarray, edges: np.ndarray) -> None:
    """Mark centres that an edge passes through while it crosses their row."""
    low, high = np.minimum(edges[:, 0], edges[:, 2]), np.maximum(edges[:, 0], edges[:, 2])
    rows, crossed = _at_whole(edges, np.ceil(low - ON_CONTOUR), np.floor(high + ON_CONTOUR), len(mask))
    columns = np.rint(crossed)
    hit = (np.abs(crossed - columns) <= ON_CONTOUR) & (columns >= 0) & (columns < mask.shape[1])
    mask[rows[hit], columns[hit].astype(int)] = True


def _at_whole(edges: np.ndarray, first: np.ndarray, last: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows ``first`` to ``last`` of each edge that lie in the slice, and the column where the edge crosses each of them."""
    first, last = np.clip(first, 0, None).astype(int), np.clip(last, None, rows - 1).astype(int)
    count = np.maximum(last - first + 1, 0)
    which = np.repeat(np.arange(len(edges)), count)
    row = first[which] + np.arange(len(which)) - (np.cumsum(count) - count)[which]
    start_row, start, end_row, end = edges[which].T
    long = np.where(start_row == end_row, 1.0, end_row - start_row)
    return row, start + np.clip((row - start_row) / long, 0, 1) * (end - start)
