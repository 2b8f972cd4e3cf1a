from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_active.data.geometry import Geometry
from nnunet_active.data.label_grid import place
from nnunet_active.util.errors import BadCase

SIZE = (7, 6, 5)
ORIENTATIONS = [np.diag(signs)[list(order)] for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]


def oblique(seed: int) -> np.ndarray:
    """A rotation that is no permutation."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
    return q * np.sign(np.linalg.det(q))


def reference(direction=None, spacing=(0.7, 1.3, 3.1), origin=(12.5, -40.25, 7.125)) -> Geometry:
    direction = np.eye(3) if direction is None else direction
    return Geometry.of_facts(SIZE, spacing, origin, tuple(direction.flatten()))


def image_of(grid: Geometry, array: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetOrigin(grid.origin)
    image.SetSpacing(grid.spacing)
    image.SetDirection(grid.direction)
    return image


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_voxel_stays_at_its_place_in_the_patient_whatever_the_box_and_the_order_of_the_axes(data):
    grid = reference(oblique(data.draw(st.integers(0, 5))))
    steps = np.array(data.draw(st.sampled_from(ORIENTATIONS)), dtype=float)
    size = data.draw(st.tuples(*[st.integers(1, 9)] * 3))
    start = np.array(data.draw(st.tuples(*[st.integers(-3, 8)] * 3)), dtype=float)
    matrix = grid.matrix @ steps  # columns: one step of the label's own axes
    spacing = np.linalg.norm(matrix, axis=0)
    label = Geometry.of_facts(
        size, tuple(spacing), tuple(grid.matrix @ start + grid.origin), tuple((matrix / spacing).flatten())
    )
    array = np.zeros(size[::-1], dtype=np.uint8)
    marker = data.draw(st.tuples(*[st.integers(0, n - 1) for n in size]))
    array[marker[::-1]] = 3
    corners = np.sort(np.stack([start, start + steps @ (np.array(size) - 1)]), axis=0)
    inside = (corners[0] >= 0).all() and (corners[1] < SIZE).all()
    around = (corners[0] <= 0).all() and (corners[1] >= np.array(SIZE) - 1).all() and size != SIZE
    point = image_of(label, array).TransformIndexToPhysicalPoint(marker)
    index = np.rint(np.linalg.inv(grid.matrix) @ (np.array(point) - grid.origin)).astype(int)
    if ((index < 0) | (index >= SIZE)).any():
        with pytest.raises(BadCase, match="marks 1 voxels outside its image"):
            place(array, label, grid, "It")
    else:
        try:
            placed, moved = place(array, label, grid, "It")
        except BadCase as error:  # a box that neither lies inside the image nor around it
            assert "elsewhere than it was drawn" in str(error) and not (inside or around)
            return
        assert bool(moved) == (not np.array_equal(steps, np.eye(3)) or any(start) or size != SIZE)
        assert placed.shape == SIZE[::-1] and placed.dtype == array.dtype
        assert np.argwhere(placed).tolist() == [index[::-1].tolist()]


def test_layers_are_moved_together():
    grid = reference()
    label = Geometry.of_facts((2, 2, 2), grid.spacing, tuple(grid.matrix @ (1, 2, 3) + grid.origin), grid.direction)
    layers = np.zeros((2, 2, 2, 2), dtype=np.uint8)
    layers[0, 0, 0, 0], layers[1, 1, 1, 1] = 1, 2
    placed, moved = place(layers, label, grid, "It")
    assert "box of 2 x 2 x 2 voxels was put at voxel 1 x 2 x 3" in moved
    assert placed.shape == (2, 5, 6, 7)
    assert np.argwhere(placed).tolist() == [[0, 3, 2, 1], [1, 4, 3, 2]]


def test_the_same_grid_up_to_rounding_is_the_same_grid():
    grid = reference(oblique(1))
    rounded = Geometry.of_facts(
        SIZE,
        tuple(np.round(grid.spacing, 3)),
        tuple(np.round(grid.origin, 2)),
        tuple(np.round(grid.direction, 4)),
    )
    array = np.random.default_rng(0).integers(0, 3, SIZE[::-1]).astype(np.uint8)
    np.testing.assert_array_equal(place(array, rounded, grid, "It")[0], array)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"origin": (12.5 + 0.35, -40.25, 7.125)}, "it is shifted by 0.5 x 0 x 0 of a voxel beyond"),
        ({"spacing": (0.7, 1.3, 1.55)}, "its voxels are 0.7 x 1.3 x 1.55 mm, the image's 0.7 x 1.3 x 3.1 mm"),
        ({"direction": oblique(3)}, "its axes point in other directions"),
        (
            {"direction": np.eye(3)[[1, 0, 2]]},
            "its axes point in other directions",
        ),  # 0.7 mm steps along the 1.3 mm axis
    ],
)
def test_what_would_need_interpolation_is_refused(change, said):
    with pytest.raises(BadCase, match=f"It does not lie on the voxel grid of its image: {said}.*never interpolated"):
        place(np.zeros(SIZE[::-1], dtype=np.uint8), reference(**change), reference(), "It")


def test_a_flat_label_lies_on_a_flat_image():
    flat = Geometry.of_facts((4, 3), (0.5, 0.5), (1.0, 2.0), (1.0, 0.0, 0.0, 1.0))
    array = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    np.testing.assert_array_equal(place(array, flat, flat, "It")[0], array)


def test_background_outside_the_image_does_not_matter_and_an_empty_label_may_lie_anywhere():
    grid = reference()
    label = Geometry.of_facts((3, 3, 3), grid.spacing, tuple(grid.matrix @ (100, 0, 0) + grid.origin), grid.direction)
    assert not place(np.zeros((3, 3, 3), dtype=np.uint8), label, grid, "It")[0].any()


@pytest.mark.parametrize(
    ("size", "origin", "direction", "marked", "said"),
    [
        (
            SIZE,
            (0, 0, 0),
            (1, 1, 1),
            (0, 5, 0),
            "has the size of its image, 7 x 6 x 5 voxels, but begins at voxel -3 x 4 x -2",
        ),
        (SIZE, (3, -4, 2), (-1, -1, 1), (0, 0, 1), "its origin or its directions got lost"),
        (
            SIZE[::-1],
            (3, -4, 2),
            (1, 1, 1),
            (1, 1, 1),
            "5 x 6 x 7 voxels are those of its image, 7 x 6 x 5, in another order",
        ),
        (
            (9, 4, 5),
            (3, -4, 2),
            (1, 1, 1),
            (1, 1, 1),
            "sticks out of it on one side and does not reach its end on another",
        ),
        ((7, 6, 4), (3, -4, 1), (1, 1, 1), (1, 1, 1), "sticks out of it on one side"),
    ],
    ids=["lost origin", "lost directions", "order of the axes", "longer and shorter", "shifted and shorter"],
)
def test_a_header_that_lost_its_origin_or_the_order_of_its_axes_is_not_believed(size, origin, direction, marked, said):
    image = Geometry.of_facts(SIZE, (1, 1, 1), (3, -4, 2), np.eye(3).ravel())
    label = Geometry.of_facts(size, (1, 1, 1), origin, np.diag(direction).ravel())
    array = np.zeros(size[::-1], dtype=np.uint8)
    inside = np.linalg.inv(label.matrix) @ (np.array(image.position(marked)) - label.origin)
    array[tuple(np.rint(inside).astype(int)[::-1])] = 1
    with pytest.raises(BadCase, match=f"It would lie elsewhere than it was drawn: .*{said}"):
        place(array, label, image, "It")


def test_a_whole_label_in_other_directions_is_turned_and_that_is_said():
    grid = reference()
    turned = np.diag([-1.0, 1.0, 1.0])
    label = Geometry.of_facts(SIZE, grid.spacing, grid.position((SIZE[0] - 1, 0, 0)), turned.ravel())
    array = np.zeros(SIZE[::-1], dtype=np.uint8)
    array[0, 0, 0] = 1
    placed, moved = place(array, label, grid, "It")
    assert np.argwhere(placed).tolist() == [[0, 0, SIZE[0] - 1]]
    assert moved == "its axes were turned to those of the image"


def flat_grid(size=(7, 6), spacing=(0.7, 1.3), origin=(12.5, -40.25)) -> Geometry:
    return Geometry.of_facts(size, spacing, origin, (1, 0, 0, 1))


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1)], ids=str)
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (-1, -1, 1)], ids=str)
def test_a_single_slice_of_a_volume_fits_a_2d_image_wherever_its_third_axis_puts_it(order, signs):
    wanted = np.zeros((1, 6, 7), dtype=np.uint8)
    wanted[0, 4, 1] = 2
    slice_at = Geometry.of_facts((7, 6, 1), (0.7, 1.3, 5.0), (12.5, -40.25, 88.0), tuple(np.eye(3).flatten()))
    turned = sitk.PermuteAxes(image_of(slice_at, wanted), list(order))
    turned = sitk.Flip(turned, [sign < 0 for sign in signs])
    placed, _ = place(sitk.GetArrayFromImage(turned), Geometry.of_itk(turned), flat_grid(), "It")
    np.testing.assert_array_equal(placed, wanted)


def test_a_2d_label_fits_an_image_of_one_slice_wherever_it_lies():
    wanted = np.zeros((1, 6, 7), dtype=np.uint8)
    wanted[0, 4, 1] = 2
    image = Geometry.of_facts((7, 6, 1), (0.7, 1.3, 5.0), (12.5, -40.25, 88.0), tuple(np.eye(3).flatten()))
    np.testing.assert_array_equal(place(wanted, flat_grid(), image, "It")[0], wanted)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (Geometry.of_facts((7, 6, 2), (0.7, 1.3, 5), (12.5, -40.25, 0), np.eye(3).ravel()), "has 3 dimensions"),
        (Geometry.of_facts((7, 6, 1), (0.7, 1.4, 5), (12.5, -40.25, 0), np.eye(3).ravel()), "its voxels are"),
        (Geometry.of_facts((7, 6, 1), (0.7, 1.3, 5), (12.5, -39.25, 0), np.eye(3).ravel()), "is shifted by"),
        (Geometry.of_facts((7, 6, 1), (0.7, 1.3, 5), (12.5, -40.25, 0), oblique(1).ravel()), "its axes point"),
    ],
    ids=["two slices", "another spacing", "shifted", "oblique"],
)
def test_other_volumes_do_not_fit_a_2d_image(label, message):
    with pytest.raises(BadCase, match=message):
        place(np.ones(label.shape, dtype=np.uint8), label, flat_grid(), "It")


def test_a_2d_label_does_not_fit_a_volume():
    with pytest.raises(BadCase, match="has 2 dimensions, but its image has 3"):
        place(np.ones((1, 6, 7), dtype=np.uint8), flat_grid(), reference(), "It")


def test_the_label_of_an_image_whose_file_holds_all_channels_is_a_volume():
    grid = reference()
    spacing, origin = (*grid.spacing, 1), (*grid.origin, 0)
    image, array = Geometry.of_facts((*SIZE, 2), spacing, origin, np.eye(4).ravel()), np.ones(grid.shape, np.uint8)
    np.testing.assert_array_equal(place(array, grid, image, "It")[0], array)
