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
    point = image_of(label, array).TransformIndexToPhysicalPoint(marker)
    index = np.rint(np.linalg.inv(grid.matrix) @ (np.array(point) - grid.origin)).astype(int)
    if ((index < 0) | (index >= SIZE)).any():
        with pytest.raises(BadCase, match="marks 1 voxels outside its image"):
            place(array, label, grid, "It")
    else:
        placed = place(array, label, grid, "It")
        assert placed.shape == SIZE[::-1] and placed.dtype == array.dtype
        assert np.argwhere(placed).tolist() == [index[::-1].tolist()]


def test_layers_are_moved_together():
    grid = reference()
    label = Geometry.of_facts((2, 2, 2), grid.spacing, tuple(grid.matrix @ (1, 2, 3) + grid.origin), grid.direction)
    layers = np.zeros((2, 2, 2, 2), dtype=np.uint8)
    layers[0, 0, 0, 0], layers[1, 1, 1, 1] = 1, 2
    placed = place(layers, label, grid, "It")
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
    np.testing.assert_array_equal(place(array, rounded, grid, "It"), array)


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


def test_a_flat_image_and_a_label_of_another_dimension():
    flat = Geometry.of_facts((4, 3), (0.5, 0.5), (1.0, 2.0), (1.0, 0.0, 0.0, 1.0))
    array = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    np.testing.assert_array_equal(place(array, flat, flat, "It"), array)
    with pytest.raises(BadCase, match="has 3 dimensions, but its image has 2"):
        place(
            np.zeros((1, 3, 4)),
            Geometry.of_facts((4, 3, 1), (1,) * 3, (0,) * 3, tuple(np.eye(3).flatten())),
            flat,
            "It",
        )


def test_background_outside_the_image_does_not_matter_and_an_empty_label_may_lie_anywhere():
    grid = reference()
    label = Geometry.of_facts((3, 3, 3), grid.spacing, tuple(grid.matrix @ (100, 0, 0) + grid.origin), grid.direction)
    assert not place(np.zeros((3, 3, 3), dtype=np.uint8), label, grid, "It").any()
