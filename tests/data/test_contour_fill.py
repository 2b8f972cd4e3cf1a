from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import find_contours

from nnunet_active.data.contour_fill import fill_contours

SHAPE = (9, 11)
masks = arrays(bool, SHAPE)


def square(low: float, high: float) -> list[tuple[float, float]]:
    return [(low, low), (low, high), (high, high), (high, low)]


def filled(*contours, shape=SHAPE, odd=False) -> np.ndarray:
    return fill_contours([np.asarray(one, dtype=float) for one in contours], shape, odd)


def box(low: int, high: int) -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[low:high, low:high] = True
    return mask


@settings(max_examples=200, deadline=None)
@given(masks, st.booleans())
def test_the_contours_of_any_mask_give_it_back_voxel_for_voxel(mask, odd):
    lines = [line[:-1] - 1 for line in find_contours(np.pad(mask, 1).astype(float), 0.5)]
    np.testing.assert_array_equal(filled(*lines, odd=odd) if lines else mask, mask)


@pytest.mark.parametrize("odd", [False, True])
def test_a_contour_within_another_one_is_a_hole_and_one_in_the_hole_an_island(odd):
    mask = filled(square(0.5, 8.5), square(2.5, 6.5), square(3.5, 5.5), odd=odd)
    np.testing.assert_array_equal(mask, (box(1, 9) & ~box(3, 7)) | box(4, 6))


def test_a_contour_that_is_there_twice_counts_once_wherever_it_begins_and_whatever_points_lie_on_it():
    outer, inner = square(0.5, 8.5), square(2.5, 6.5)
    again = [*outer[2:], *outer[:2], (5, 8.5)][::-1]
    np.testing.assert_array_equal(filled(outer, inner, again, inner[::-1], outer), box(1, 9) & ~box(3, 7))
    assert not filled(outer, outer, odd=True).any()


def test_contours_that_overlap_in_part_add_up_unless_what_two_of_them_enclose_is_out():
    first, second = square(0.5, 4.5), square(3.5, 7.5)
    np.testing.assert_array_equal(filled(first, second), box(1, 5) | box(4, 8))
    np.testing.assert_array_equal(filled(first, second, odd=True), box(1, 5) ^ box(4, 8))


def test_the_hole_of_one_contour_does_not_cut_into_another_that_overlaps_it():
    first, hole, second = square(0.5, 6.5), square(2.5, 4.5), square(3.5, 8.5)
    np.testing.assert_array_equal(filled(first, hole, second), (box(1, 7) & ~box(3, 5)) | box(4, 9))
    np.testing.assert_array_equal(filled(first, square(4.5, 5.5), second), (box(1, 7) | box(4, 9)) & ~box(5, 6))


def test_a_contour_whose_corners_lie_in_another_one_that_its_edges_leave_is_no_hole():
    arms = [(0.5, 0.5), (8.5, 0.5), (8.5, 2.5), (2.5, 2.5), (2.5, 6.5), (8.5, 6.5), (8.5, 8.5), (0.5, 8.5)]
    across = [(4.5, 1.5), (4.5, 7.5), (6.5, 7.5), (6.5, 1.5)]
    wanted = filled(arms)
    wanted[5:7, 2:8] = True
    np.testing.assert_array_equal(filled(arms, across), wanted)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 7), st.integers(1, 8)] * 2), min_size=1, max_size=5))
def test_rectangles_add_up_less_the_holes_that_lie_wholly_within_voxel_for_voxel(sides):
    """Against the same rule for sets of voxels: what a rectangle holds, less what the largest ones within it hold."""
    boxes = sorted({(a, max(a + 1, b), c, max(c + 1, d)) for a, b, c, d in sides})
    drawn = [[(a - 0.5, c - 0.5), (a - 0.5, d - 0.5), (b - 0.5, d - 0.5), (b - 0.5, c - 0.5)] for a, b, c, d in boxes]
    voxels = [frozenset((r, k) for r in range(a, b) for k in range(c, d)) for a, b, c, d in boxes]

    def left(one: frozenset) -> frozenset:
        within = [other for other in voxels if other < one]
        return one.difference(*(left(other) for other in within if not any(other < between for between in within)))

    wanted = np.zeros(SHAPE, dtype=bool)
    for one in voxels:
        if not any(one < other for other in voxels):
            wanted[tuple(np.array(sorted(left(one)), dtype=int).reshape(-1, 2).T)] = True
    np.testing.assert_array_equal(filled(*drawn), wanted)


@pytest.mark.parametrize("width", [0, 0.2])
def test_a_keyhole_contour_leaves_its_hole_open_and_its_channel_closed(width):
    outer, inner = square(0.5, 8.5), square(2.5, 6.5)
    near, far = (0.5, 0.5 + width), (2.5, 2.5 + width)
    keyhole = [near, *outer[1:], outer[0], inner[0], *inner[:0:-1], far]
    np.testing.assert_array_equal(filled(keyhole), box(1, 9) & ~box(3, 7))


@pytest.mark.parametrize("noise", [0, 0.004])
def test_voxels_whose_centres_lie_on_a_contour_belong_to_it(noise):
    """Programs that draw through the outermost voxels, and write millimetres with two digits, lose none."""
    rng = np.random.default_rng(0)
    for shape in (square(2, 6), [(2, 2), (2, 6), (6, 6), (6, 2), (4, 2)], square(3, 3)[:1], [(3, 2), (3, 7)]):
        points = np.asarray(shape, dtype=float)
        low, high = points.min(axis=0).astype(int), points.max(axis=0).astype(int) + 1
        wanted = np.zeros(SHAPE, dtype=bool)
        wanted[low[0] : high[0], low[1] : high[1]] = True
        np.testing.assert_array_equal(filled(points + rng.uniform(-noise, noise, points.shape)), wanted)


def test_where_a_contour_begins_and_which_way_it_runs_does_not_matter():
    rng = np.random.default_rng(1)
    points = rng.uniform(0, 8, (7, 2))
    wanted = filled(points)
    for turn in range(7):
        np.testing.assert_array_equal(filled(np.roll(points, turn, axis=0)), wanted)
        np.testing.assert_array_equal(filled(np.roll(points, turn, axis=0)[::-1]), wanted)


def test_a_contour_that_reaches_beyond_the_slice_is_cut_at_its_edge():
    np.testing.assert_array_equal(filled(square(-30.5, 3.5)), box(0, 4))
    assert filled(square(-30.5, 300.5)).all() and not filled(square(20.5, 30.5)).any()


def test_a_circle_has_the_voxels_whose_centres_lie_in_it():
    angle = np.linspace(0, 2 * np.pi, 721)[:-1]
    circle = 30.3 + 20.4 * np.column_stack([np.sin(angle), np.cos(angle)])
    rows, columns = np.indices((61, 61))
    wanted = (rows - 30.3) ** 2 + (columns - 30.3) ** 2 <= 20.4**2
    found = filled(circle, shape=(61, 61))
    assert 2 * (found & wanted).sum() / (found.sum() + wanted.sum()) > 0.999
