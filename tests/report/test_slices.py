from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from PIL import Image
from tiny_dataset import make_plans, write_image

from nnunet_active.report import slices
from nnunet_active.report.volumes import Volume, read_map

AFFINE = np.diag([2.0, 3.0, 4.0, 1.0])


def picture(address: str) -> Image.Image:
    assert address.startswith("data:image/png;base64,")
    return Image.open(io.BytesIO(base64.b64decode(address.split(",")[1])))


def test_the_largest_section_lies_within_the_prediction():
    label = np.zeros((5, 10, 10), dtype=np.uint8)
    assert slices.largest_section(label) is None
    label[1, 2:4, 2:4] = 1
    label[3, 4:9, 5:8] = 2
    assert slices.largest_section(label) == (3, 6, 6)


def test_the_three_views_show_one_place_with_the_head_up_and_the_right_side_on_the_left(tmp_path):
    array = np.zeros((5, 6, 7), dtype=np.float32)
    array[1, 4, 2] = 9
    file = write_image(tmp_path / "a.nii.gz", array, spacing=(1.0, 2.0, 3.0), direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1))
    volume = read_map(file, make_plans())
    place = tuple(int(i) for i in np.argwhere(volume.voxels == 9)[0])
    views = slices.make_views(volume, place)
    assert [view.name for view in views] == ["axial", "coronal", "sagittal"]
    assert [view.letters for view in views] == [("R", "L", "A", "P"), ("R", "L", "S", "I"), ("A", "P", "S", "I")]
    for view in views:
        plane = view.cut(volume.voxels)
        assert plane.shape == view.shape
        row, column = np.argwhere(plane == 9)[0]
        assert view.mark == (row + 0.5, column + 0.5)
    # in the file x runs to the right and y to the front: the marker is 2 of 7 from the left, 4 of 6 from the back
    assert views[0].mark == (5 - 4 + 0.5, 6 - 2 + 0.5)
    assert views[1].mark[0] == 4 - 1 + 0.5  # slice 1 of 5 from the feet is low in the picture
    assert [view.size_mm for view in views] == [(12, 7), (15, 7), (15, 12)]


def test_a_single_slice_has_one_view_and_no_letters():
    view, *others = slices.make_views(Volume(np.zeros((1, 4, 6)), (1.0, 1.0, 1.0)), (0, 1, 2))
    assert not others and view.name == "image" and view.letters == () and view.size_mm == (4, 6)
    assert slices.make_views(Volume(np.zeros((1, 4, 6)), (1, 1, 1), AFFINE, AFFINE), (0, 1, 2))[0].name == "axial"


def stack(axis: int, angle: float, thick: float = 10.0) -> Volume:
    """A stack of slices along an array axis (Z, Y, X), turned about the patient's long axis."""
    spacing = [1.5, 1.5, 1.5]
    spacing[axis] = thick
    shape = [40, 44, 48]
    shape[axis] = 9
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn * spacing[::-1]
    return Volume(np.zeros(shape), tuple(spacing), affine, affine)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_in_an_oblique_stack_of_thick_slices_the_planes_are_named_by_acquisition_the_acquired_one_first(axis):
    views = slices.make_views(stack(axis, 0.6), (4, 4, 4))
    near = ("axial", "coronal", "sagittal")[axis]
    assert views[0].axis == axis and views[0].caption == f"slice 5 as acquired (near {near})"
    assert [view.strip for view in views] == [False, True, True]
    assert all(view.caption.startswith("across the slices at 5 (near ") for view in views[1:])


def test_a_straight_stack_keeps_the_patients_planes_and_an_even_volume_has_no_strips():
    straight = slices.make_views(stack(0, 0.0), (4, 4, 4))
    assert [view.caption for view in straight] == ["axial 5", "coronal 5", "sagittal 5"]
    assert [view.strip for view in straight] == [False, True, True]
    tilted = slices.make_views(stack(0, 0.6, thick=4.0), (4, 4, 4))  # slices less than three times as thick as wide
    assert [view.caption for view in tilted] == ["axial 5", "coronal 5", "sagittal 5"]
    assert not any(view.strip for view in tilted)


def test_grey_runs_from_the_first_percentile_to_the_highest_values():
    values = np.concatenate([np.zeros(5000), np.linspace(100, 1100, 1001)])
    low, high = slices.grey_window(values.reshape(1, 1, -1))
    assert low == 0 and 1085 < high < 1100
    shades = np.asarray(picture(slices.grey_picture(np.array([[-5.0, 0.0, high / 2, high, 1e9]]), (low, high))))
    assert shades.tolist() == [[0, 0, 129, 255, 255]]


@pytest.mark.parametrize(
    "plane", [np.full((3, 4), 7.0), np.full((3, 4), np.nan), np.array([[np.nan, np.inf, -np.inf]])]
)
def test_a_flat_or_broken_slice_still_makes_a_picture(plane):
    assert picture(slices.grey_picture(plane, slices.grey_window(plane))).size == plane.shape[::-1]


def test_uncertainty_is_clear_at_zero_and_strongest_at_a_coin_toss():
    plane = np.array([[0.0, 0.2, 0.5, np.log(2), 5.0, np.nan]])
    alpha = np.asarray(picture(slices.uncertainty_picture(plane)).convert("RGBA"))[0, :, 3]
    assert alpha[0] == 0 and 0 < alpha[1] < alpha[2] <= alpha[3] == alpha[4] and alpha[5] == 0
    assert slices.uncertainty_picture(np.zeros((3, 3))) is None
    assert len(slices.scale_colours()) == 16 and slices.scale_colours()[0].endswith("0.00)")


def test_an_outline_goes_around_exactly_the_predicted_voxels():
    rng = np.random.default_rng(3)
    plane = np.zeros((12, 15), dtype=np.uint8)
    plane[rng.random(plane.shape) < 0.4] = 1
    plane[0, :5] = 1  # also at the edge of the picture
    (path,) = slices.outlines(plane, {"background": 0, "tumour": 1, "core": 2}).values()
    inside = np.zeros(plane.shape, dtype=bool)
    rows, columns = np.indices(plane.shape) + 0.5
    for part in path.split("M")[1:]:
        corners = [tuple(map(float, pair.split())) for pair in part.removesuffix("Z").split("L")]
        within = Outline(corners).contains_points(np.stack([columns.ravel(), rows.ravel()], 1))
        inside ^= within.reshape(plane.shape)
    assert np.array_equal(inside, plane == 1)


def test_regions_are_outlined_as_regions():
    plane = np.zeros((6, 6), dtype=np.uint8)
    plane[1:5, 1:5] = 1
    plane[2:4, 2:4] = 2
    found = slices.outlines(plane, {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3})
    assert list(found) == ["whole", "core"]
    assert found["whole"].count("M") == 1  # no hole where the core is


def test_large_slices_are_thinned_out():
    plane = np.random.default_rng(0).random((1000, 500))
    assert picture(slices.grey_picture(plane, (0, 1))).size == (128, 256)
    assert picture(slices.uncertainty_picture(plane)).size == (128, 256)
    # ten cases of four channels, three views each, of noise, which is the worst there is
    assert 120 * len(slices.grey_picture(np.random.default_rng(0).random((512, 512)), (0, 1))) < 10e6
