from __future__ import annotations

import contextlib
import io
from copy import deepcopy
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from tiny_dataset import DATASET_JSON, make_plans, write_image

from nnunet_active.data.maps import to_file_order
from nnunet_active.data.slice_map import AXES, NUMPY_AXIS, SliceMap, choose_axis, slice_maps

SHAPE = (9, 14, 12)  # Z, Y, X of the file
OBLIQUE = (0.98, -0.17, 0.0, 0.17, 0.98, 0.0, 0.0, 0.0, 1.0)
FLIPPED = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
PERMUTED = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0)  # sagittal storage, one axis turned
DIRECTIONS = {"straight": None, "oblique": OBLIQUE, "flipped": FLIPPED, "permuted": PERMUTED}
READERS = ("SimpleITKIO", "NibabelIO", "NibabelIOWithReorient", "SimpleITKIOWithReorient")


def preprocessed(folder: Path, array: np.ndarray, plans: dict, configuration: str, **where):
    """What nnU-Net makes of an image: array (C, Z, Y, X) and properties."""
    files = [str(write_image(folder / f"c_{c:04d}.nii.gz", array, **where)) for c in range(2)]
    manager = PlansManager(plans)
    with contextlib.redirect_stdout(io.StringIO()):
        image, _, properties = DefaultPreprocessor(verbose=False).run_case(
            files, None, manager, manager.get_configuration(configuration), DATASET_JSON
        )
    return image, properties


def marked(axis: str, index: int) -> np.ndarray:
    """An image with a border of zeros, unequal at the two ends, in which one slice is much brighter than all others."""
    array = np.zeros(SHAPE, dtype=np.float32)
    array[1:-1, 3:-2, 2:-1] = 1.0
    where = [slice(None)] * 3
    where[NUMPY_AXIS[axis]] = index
    array[tuple(where)] *= 50
    return array


def brightest(image: np.ndarray, one: SliceMap) -> int:
    others = tuple(axis for axis in range(3) if axis != one.preprocessed_axis)
    return int(one.sums(image[0].astype(float).clip(0).sum(axis=others)).argmax())


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_the_slice_that_was_marked_is_the_slice_that_is_found(tmp_path, reader, direction, configuration):
    plans = make_plans()
    plans["image_reader_writer"] = reader
    plans["transpose_forward"], plans["transpose_backward"] = [1, 0, 2], [1, 0, 2]
    plans["configurations"]["3d_fullres"]["spacing"] = [1.1, 2.0, 0.7]  # finer, coarser and finer than the image
    for axis, index in (("x", 4), ("x", 8), ("y", 5), ("z", 2), ("z", 6)):
        place = {"spacing": (1.0, 1.5, 3.0), "direction": DIRECTIONS[direction]}
        image, properties = preprocessed(tmp_path, marked(axis, index), plans, configuration, **place)
        maps = slice_maps(properties, plans["transpose_forward"], image.shape[1:], to_file_order)
        assert [maps[name].slices for name in AXES] == list(SHAPE[::-1])
        assert [maps[name].spacing for name in AXES] == pytest.approx([1.0, 1.5, 3.0])
        assert brightest(image, maps[axis]) == index
        found = maps[axis].stored_slice(int(image[0].sum(axis=_others(maps[axis])).argmax()))
        # where preprocessing made slices thicker, the middle of the brightest may lie in the neighbour
        assert abs(found - index) <= (maps[axis].resampled < maps[axis].length)


def _others(one: SliceMap) -> tuple[int, ...]:
    return tuple(axis for axis in range(3) if axis != one.preprocessed_axis)


@pytest.mark.parametrize("transpose", list(permutations(range(3))))
def test_every_transposition_of_the_plans_is_followed(tmp_path, transpose):
    plans = make_plans()
    plans["transpose_forward"] = list(transpose)
    plans["transpose_backward"] = list(np.argsort(transpose))
    plans["configurations"]["3d_fullres"]["spacing"] = [1.0, 1.0, 1.0]  # coarser ones lose a thin marker
    for axis, index in (("x", 4), ("y", 5), ("z", 2)):
        image, properties = preprocessed(tmp_path, marked(axis, index), plans, "3d_fullres")
        assert brightest(image, slice_maps(properties, transpose, image.shape[1:])[axis]) == index


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_readers_own_slice_is_found_for_every_stored_one(tmp_path, reader, direction):
    """What is masked in the reader's array is what a person sees in the file."""
    plans = make_plans()
    plans["image_reader_writer"] = reader
    array = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE) + 1
    file = write_image(tmp_path / "c_0000.nii.gz", array, direction=DIRECTIONS[direction])
    read, properties = PlansManager(plans).image_reader_writer_class().read_images([str(file)])
    shape = read.shape[1:]
    properties |= {"shape_before_cropping": shape, "bbox_used_for_cropping": [[0, n] for n in shape]}
    maps = slice_maps(properties, (0, 1, 2), shape, to_file_order)
    for axis in AXES:
        for index in (0, 1, SHAPE[NUMPY_AXIS[axis]] - 1):
            there = read[0].take(maps[axis].in_reader([index]), maps[axis].reader_axis)
            expected = array.take([index], NUMPY_AXIS[axis])
            assert sorted(there.ravel().tolist()) == sorted(expected.ravel().tolist())


maps = st.builds(
    lambda length, resampled, before, after, flipped: SliceMap(
        "z", before + length + after, 1.0, 0, 0, flipped, before, length, resampled
    ),
    st.integers(1, 40),
    st.integers(1, 60),
    st.integers(0, 5),
    st.integers(0, 5),
    st.booleans(),
)


@settings(max_examples=100, deadline=None)
@given(one=maps, seed=st.integers(0, 100))
def test_totals_stay_and_nothing_leaves_the_crop(one, seed):
    values = np.random.default_rng(seed).random(one.resampled)
    sums = one.sums(values)
    assert sums.sum() == pytest.approx(values.sum())
    inside = one.is_imaged()
    assert inside.sum() == one.length and not sums[~inside].any()


@settings(max_examples=100, deadline=None)
@given(one=maps, value=st.floats(0.1, 5), seed=st.integers(0, 100))
def test_a_mean_that_is_the_same_everywhere_is_the_same_in_every_stored_slice(one, value, seed):
    weights = np.random.default_rng(seed).integers(1, 9, one.resampled)
    found = one.means(np.full(one.resampled, value), weights)
    np.testing.assert_allclose(found[one.is_imaged()], value)
    assert not found[~one.is_imaged()].any()


@settings(max_examples=100, deadline=None)
@given(one=maps)
def test_without_resampling_every_slice_has_one_counterpart(one):
    same = SliceMap("z", one.slices, 1.0, 0, 0, one.flipped, one.start, one.length, one.length)
    values = np.arange(1.0, same.length + 1)
    placed = np.zeros(same.slices)
    placed[same.start : same.start + same.length] = values
    np.testing.assert_allclose(same.sums(values), placed[::-1] if same.flipped else placed)
    found = [same.stored_slice(index) for index in range(same.length)]
    assert [int(same.sums(np.eye(same.length)[i]).argmax()) for i in range(same.length)] == found


def test_nothing_that_was_noted_is_changed(tmp_path):
    plans = make_plans()
    image, properties = preprocessed(tmp_path, marked("z", 3), plans, "2d")
    before = deepcopy(properties)
    slice_maps(properties, (0, 1, 2), image.shape[1:], to_file_order)
    assert str(properties) == str(before)


@pytest.mark.parametrize(
    ("spacing", "axis"),
    [
        ((0.7, 0.7, 5.0), "z"),
        ((5.0, 0.7, 0.7), "x"),
        ((0.9, 1.0, 0.9), "y"),
        ((1.0, 1.0, 1.0), "z"),
        ((1.0, 1.0, 0.5), "z"),
        ((1.0, 1.0000001, 0.5), "z"),
    ],
)
def test_the_axis_is_that_of_the_largest_spacing_else_the_third(spacing, axis):
    assert choose_axis(dict(zip(AXES, spacing, strict=True))) == axis


def test_a_person_can_say_otherwise():
    spacing = {"x": 1.0, "y": 1.0, "z": 5.0}
    assert choose_axis(spacing, "y") == "y"
    with pytest.raises(ValueError, match="auto, x, y or z"):
        choose_axis(spacing, "axial")
