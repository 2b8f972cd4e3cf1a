from __future__ import annotations

import numpy as np
import pytest
from tiny_dicom import TURNS, change, turned, write_enhanced, write_series
from tiny_spaces import DIRECTIONS, SHAPE, affine

from nnunet_active.data.dicom_planes import planes_of, read_dicom_header
from nnunet_active.data.dicom_volume import stack_planes
from nnunet_active.util.errors import BadCase

STEPS = affine(DIRECTIONS["oblique"])
VOXELS = np.random.default_rng(3).integers(0, 4000, SHAPE).astype(np.uint16)


def volume(files):
    return stack_planes([plane for file in files for plane in planes_of(read_dicom_header(file), file)])


def refused(files) -> str:
    with pytest.raises(BadCase) as caught:
        volume(files)
    return str(caught.value)


@pytest.fixture
def files(tmp_path):
    """In the order of the slices."""
    return write_series(tmp_path, VOXELS, STEPS)


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
def test_an_oblique_anisotropic_series_is_its_voxels_where_they_lie(tmp_path, turn):
    array, steps = turned(VOXELS, STEPS, turn)
    found = volume(sorted(write_series(tmp_path, array, steps)))
    at = {tuple(np.round(found.grid.position(i[::-1]), 3)): v for i, v in np.ndenumerate(found.read())}
    expected = {tuple(np.round(STEPS @ (*i[::-1], 1), 3)[:3]): v for i, v in np.ndenumerate(VOXELS)}
    assert at == expected
    assert np.linalg.det(found.grid.matrix) > 0


def test_an_enhanced_file_is_the_same_volume_as_single_images(tmp_path, files):
    single, enhanced = volume(files), volume([write_enhanced(tmp_path / "all.dcm", VOXELS, STEPS)])
    np.testing.assert_array_equal(single.read(), enhanced.read())
    assert single.grid.fits(enhanced.grid) and single.grid.size == enhanced.grid.size


def test_hounsfield_units_are_signed_integers_and_other_scales_are_floats(tmp_path):
    files = write_series(tmp_path / "ct", VOXELS, STEPS, RescaleSlope="1", RescaleIntercept="-1024")
    found = volume(files).read()
    assert found.dtype == np.int16
    np.testing.assert_array_equal(found, VOXELS.astype(int) - 1024)
    files = write_series(tmp_path / "pet", VOXELS, STEPS, RescaleSlope="0.25", RescaleIntercept="0")
    found = volume(files).read()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, VOXELS / 4)


def test_signed_values_and_those_beyond_sixteen_bits_stay_what_they_are(tmp_path):
    signed = VOXELS.astype(np.int16) - 2000
    np.testing.assert_array_equal(volume(write_series(tmp_path / "signed", signed, STEPS)).read(), signed)
    large = VOXELS + 60_000 - 4000
    found = volume(write_series(tmp_path / "large", large, STEPS)).read()
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, large)


def test_a_missing_slice_is_told_with_its_place(files):
    said = refused(files[:4] + files[5:])
    assert said == (
        "lacks 1 slice(s): they lie 3.3 mm apart, but numbers 4 and 5 of the 8 that are there 6.6 mm; copy the whole series again"
    )


def test_unequal_distances_are_refused(files):
    moved = STEPS @ (0, 0, 3.4, 1)
    change(files[3], ImagePositionPatient=[f"{n:.9g}" for n in moved[:3]])
    assert refused(files).startswith("has slices at unequal distances, from 1.98 to 4.62 mm")


def test_rounded_positions_are_no_unequal_distances(files):
    for file in files:
        (plane,) = planes_of(read_dicom_header(file), file)
        change(file, ImagePositionPatient=[f"{n:.2f}" for n in plane.origin])
    assert volume(files).grid.size == SHAPE[::-1]


def test_a_localizer_is_refused(files):
    change(files[0], ImageOrientationPatient=["1", "0", "0", "0", "0", "-1"])
    assert "several directions, as a localizer has" in refused(files)


def test_several_time_points_are_told_by_what_differs(tmp_path, files):
    later = write_series(tmp_path / "later", VOXELS, STEPS, EchoTime="80")
    for file in files:
        change(file, EchoTime="10")
    said = refused(files + later)
    assert said.startswith(f"has 2 images at each of its {SHAPE[0]} places, which differ in EchoTime")


def test_one_place_with_two_images_is_refused(tmp_path, files):
    other = write_series(tmp_path / "other", VOXELS, STEPS)
    assert refused([*files, other[2]]).startswith(f"has more than one image at 1 of its {SHAPE[0]} places")


def test_a_tilted_gantry_is_refused_with_its_angle(tmp_path):
    steps = affine(DIRECTIONS["identity"])
    steps[:3, 2] = (0, 0, 3.3)
    files = write_series(tmp_path, VOXELS, steps)
    for index, file in enumerate(files):
        change(file, ImagePositionPatient=["0", f"{index * 3.3 * np.tan(np.radians(12)):.9g}", f"{3.3 * index:.9g}"])
    assert refused(files).startswith("has slices that are sheared by 12 degrees (a tilted gantry)")


def test_slices_beside_each_other_are_refused(files):
    change(files[4], ImagePositionPatient=[f"{n:.9g}" for n in (STEPS @ (3, 0, 4, 1))[:3]])
    assert "shifted against each other by up to 2.34 mm" in refused(files)


def test_different_sizes_and_pixel_spacings_are_refused(tmp_path, files):
    change(files[1], PixelSpacing=["2", "2"])
    assert "different pixel spacing" in refused(files)
    other = write_series(tmp_path / "other", VOXELS[:, :-1], STEPS)
    assert "different sizes (10 x 11 to 10 x 12 pixels)" in refused([*files[:2], other[2]])


def test_images_without_a_place_are_refused(files):
    change(files[0], ImagePositionPatient=None)
    assert refused(files).startswith("does not say where its images lie")


def test_one_image_has_the_thickness_of_its_slice(files):
    assert volume(files[:1]).grid.size == (*SHAPE[:0:-1], 1)
    np.testing.assert_allclose(volume(files[:1]).grid.spacing, (0.7812345, 1.1, 3.3), atol=1e-6)
    change(files[0], SliceThickness=None)
    assert "has one image only, and does not say how thick its slice is" in refused(files[:1])


def test_a_file_that_was_copied_in_part_is_named_without_its_header(files):
    files[2].write_bytes(files[2].read_bytes()[:-40])
    with pytest.raises(BadCase, match=rf"has a file that cannot be read \({files[2].name}: \w+\)"):
        volume(files).read()
