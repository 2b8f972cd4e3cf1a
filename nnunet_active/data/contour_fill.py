"""Fills the closed contours of one slice with voxels.

A voxel belongs to the area of a contour if the contour goes round its centre an odd number of times, so that the channel of a keyhole
has no area. Several contours are joined: one that lies wholly within another is a hole in it, else their areas add up. Centres on
a contour belong to it: programs that draw through the outermost voxels lose none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# In voxels. Coordinates written with two decimals of a millimetre are rounded to a hundredth.
ON_CONTOUR = 0.01


def fill_contours(contours: Sequence[np.ndarray], shape: tuple[int, int], odd: bool = False) -> np.ndarray:
    """The voxels of an area.

    Args:
        contours: (points, 2) float64 each, (row, column) in voxels, whole numbers at the centres; closed from last to first point.
        shape: (rows, columns) of the slice.
        odd: count the voxels that an odd number of contours enclose, however the contours lie.

    Returns:
        (rows, columns) bool.

    >>> fill_contours([np.array([(0.5, 0.5), (0.5, 2.5), (1.5, 2.5), (1.5, 0.5)])], (3, 4)).astype(int).tolist()
    [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    edges = [_edges(one) for one in contours]
    every = np.concatenate(edges)
    on_edge = np.zeros(shape, dtype=bool)
    _mark_on_edges(on_edge, every)
    _mark_on_edges(on_edge.T, every[:, [1, 0, 3, 2]])
    if odd or len(edges) == 1:
        return _enclosed(every, shape) | on_edge
    areas = [_enclosed(one, shape) & ~on_edge for one in edges]
    return _joined(areas, _holders(edges, areas)) | on_edge


def _edges(contour: np.ndarray) -> np.ndarray:
    """(points, 4): from where to where."""
    return np.hstack([contour, np.roll(contour, -1, axis=0)])


def _enclosed(edges: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The voxels that the edges go round an odd number of times."""
    low, high = np.minimum(edges[:, 0], edges[:, 2]), np.maximum(edges[:, 0], edges[:, 2])
    # half-open, so that a corner on a row of centres counts once
    rows, crossed = _at_whole(edges, np.ceil(low), np.ceil(high) - 1, shape[0])
    turns = np.zeros((shape[0], shape[1] + 1), dtype=np.int64)
    np.add.at(turns, (rows, np.clip(np.ceil(crossed), 0, shape[1]).astype(int)), 1)
    return np.cumsum(turns, axis=1)[:, :-1] % 2 == 1


def _holders(edges: Sequence[np.ndarray], areas: Sequence[np.ndarray]) -> dict[int, set[int]]:
    """For each contour those that it lies wholly within; without those that are there twice."""
    low, high = (np.array([pick(one[:, :2], axis=0) for one in edges]) for pick in (np.min, np.max))
    boxed = (low[:, None] >= low - ON_CONTOUR).all(axis=2) & (high[:, None] <= high + ON_CONTOUR).all(axis=2)
    holders: dict[int, set[int]] = {one: set() for one in range(len(edges))}
    for one, other in np.argwhere(boxed).tolist():
        # the corners say it to a fraction of a voxel, the voxels where an edge leaves the other area between two corners
        if one != other and not (areas[one] & ~areas[other]).any() and _holds(edges[other], edges[one][:, :2]):
            holders[one].add(other)
    twice = {one for one in holders for other in holders[one] if other < one and one in holders[other]}
    return {one: found - twice for one, found in holders.items() if one not in twice}


def _holds(edges: np.ndarray, points: np.ndarray) -> bool:
    """Whether all points lie within a contour or on it."""
    # a few at a time, because drawings may have thousands of points
    parts = np.array_split(points, len(points) * len(edges) // 500_000 + 1)
    return all(_touched(edges, part[~_round(edges, part)]).all() for part in parts)


def _round(edges: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The points that the edges go round an odd number of times."""
    row, column = points[:, :1], points[:, 1:]
    which, by = np.nonzero((edges[:, 0] <= row) != (edges[:, 2] <= row))
    start_row, start, end_row, end = edges[by].T
    beyond = start + (end - start) * (row[which, 0] - start_row) / (end_row - start_row) > column[which, 0]
    return np.bincount(which[beyond], minlength=len(points)) % 2 == 1


def _touched(edges: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The points through which an edge passes."""
    along, away = edges[:, 2:] - edges[:, :2], points[:, None] - edges[:, :2]
    length = np.maximum((along**2).sum(axis=1), np.finfo(float).tiny)
    nearest = np.clip((away * along).sum(axis=2) / length, 0, 1)[..., None] * along
    return (np.linalg.norm(away - nearest, axis=2) <= ON_CONTOUR).any(axis=1)


def _joined(areas: Sequence[np.ndarray], holders: dict[int, set[int]]) -> np.ndarray:
    """The areas less the holes in them, to which islands in the holes do not belong."""
    whole = np.zeros_like(areas[0])
    left: dict[int, np.ndarray] = {}
    # from the innermost to the outermost
    for one in sorted(holders, key=lambda index: -len(holders[index])):
        left[one] = areas[one].copy()
        within = [other for other in left if one in holders[other]]
        for other in within:
            if not holders[other].intersection(within):
                left[one] &= ~left[other]
        if not holders[one]:
            whole |= left[one]
    return whole


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
