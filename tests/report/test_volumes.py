from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from tiny_dataset import make_plans, write_image

from nnunet_active.data.file_endings import carries_geometry
from nnunet_active.report.volumes import read_channels, read_map
from nnunet_active.util.errors import BadCase

PLANS = make_plans()


def rotation(degrees: float) -> tuple[float, ...]:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return (c, -s, 0, s, c, 0, 0, 0, 1)


def directions() -> list[tuple[float, ...]]:
    """All 48 ways to lay the axes of a file along those of the patient."""
    found = []
    for axes, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        matrix = np.zeros((3, 3))
        for column, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
            matrix[axis, column] = sign
        found.append(tuple(matrix.ravel()))
    return found


@pytest.mark.parametrize("direction", directions())
def test_every_orientation_is_turned_so_that_head_back_and_left_come_last(tmp_path, direction):
    array = np.zeros((5, 6, 7), dtype=np.float32)
    array[1, 4, 2] = 1
    file = write_image(tmp_path / "a.nii.gz", array, spacing=(1.0, 2.0, 3.0), direction=direction)
    image = sitk.ReadImage(str(file))
    truth = np.array(image.TransformIndexToPhysicalPoint((2, 4, 1)))
    volume = read_map(file, PLANS)
    index = tuple(np.argwhere(volume.voxels == 1)[0])
    assert volume.patient_position(index) == pytest.approx(truth, abs=1e-3)
    assert volume.file_index(index) == (2, 4, 1)
    for axis, lps in zip((0, 1, 2), (2, 1, 0), strict=True):  # a step along an array axis leads up, back, left
        step = list(index)
        step[axis] += 1
        moved = volume.patient_position(step) - volume.patient_position(index)
        assert moved[lps] == pytest.approx(volume.spacing[axis], abs=1e-3)
        assert np.abs(moved).sum() == pytest.approx(moved[lps], abs=1e-3)
    assert volume.tilt == pytest.approx(0, abs=1e-3)


def test_the_tilt_of_an_oblique_scan_is_known(tmp_path):
    file = write_image(tmp_path / "a.nii.gz", np.ones((3, 4, 5), dtype=np.float32), direction=rotation(20))
    assert read_map(file, PLANS).tilt == pytest.approx(20, abs=0.01)


def test_channels_come_from_several_files_or_from_one(tmp_path):
    one = write_image(tmp_path / "a_0000.nii.gz", np.full((3, 4, 5), 1, dtype=np.float32))
    two = write_image(tmp_path / "a_0001.nii.gz", np.full((3, 4, 5), 2, dtype=np.float32))
    assert [v.voxels.max() for v in read_channels([one, two], PLANS)] == [1, 2]
    joined = sitk.JoinSeries([sitk.ReadImage(str(one)), sitk.ReadImage(str(two))])
    sitk.WriteImage(joined, str(tmp_path / "b.nii.gz"))
    found = list(read_channels([tmp_path / "b.nii.gz"], PLANS))
    assert [v.voxels.max() for v in found] == [1, 2] and found[0].voxels.shape == (3, 4, 5)


def test_pictures_without_a_geometry_are_one_slice_with_square_pixels(tmp_path):
    array = np.random.default_rng(0).integers(0, 255, (9, 7, 3), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "a_0000.png")
    plans = {**PLANS, "image_reader_writer": "NaturalImage2DIO"}
    found = list(read_channels([tmp_path / "a_0000.png"], plans))
    assert [v.voxels.shape for v in found] == [(1, 9, 7)] * 3
    assert np.array_equal(found[2].voxels[0], array[..., 2])
    assert found[0].affine is None and found[0].spacing == (1, 1, 1) and found[0].tilt == 0
    assert found[0].patient_position((0, 1, 2)) is None and found[0].file_index((0, 1, 2)) == (2, 1, 0)
    assert not carries_geometry(".png") and carries_geometry(".nii.gz") and carries_geometry(".NRRD")


def test_a_flat_image_in_a_medical_format_is_one_slice_without_sides(tmp_path):
    image = sitk.GetImageFromArray(np.arange(12, dtype=np.float32).reshape(3, 4))
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    found = read_map(tmp_path / "a.mha", PLANS)
    assert found.voxels.shape == (1, 3, 4) and found.affine is None


@pytest.mark.parametrize("content", [None, b"no image at all"])
def test_a_file_that_is_missing_or_broken_is_named(tmp_path, content):
    file = tmp_path / "a.nii.gz"
    if content:
        file.write_bytes(content)
    with pytest.raises(BadCase, match=r"a\.nii\.gz"):
        read_map(file, PLANS)
