from __future__ import annotations

import gzip

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tiny_dataset as tiny

from nnunet_active.data.image_checks import check_image, image_reader
from nnunet_active.data.image_headers import channels_apart, header_fault, volumes_in
from nnunet_active.util.errors import BadCase

READER = image_reader(tiny.make_plans())
VOXELS = tiny.intensities(0).transpose()


def nifti(file, voxels=VOXELS, affine=None):
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine), file)
    return file


def with_spacing(file, spacing):
    """nibabel and ITK never write such a header; other programs do."""
    content = bytearray(gzip.decompress(nifti(file).read_bytes()))
    content[80:92] = np.asarray(spacing, "<f4").tobytes()
    file.write_bytes(gzip.compress(bytes(content)))
    return file


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_an_ordinary_image_has_no_fault_and_holds_one_volume(tmp_path, ending):
    file = tiny.write_image(tmp_path / f"a{ending}", tiny.intensities(0))
    assert header_fault(file) is None and volumes_in(file) == 1


@pytest.mark.parametrize(("spacing", "shown"), [((0, 0, 0), "0 x 0 x 0"), ((1, np.nan, 1), "1 x nan x 1")])
def test_a_voxel_size_that_is_none_is_named_with_what_to_do(tmp_path, spacing, shown):
    file = with_spacing(tmp_path / "a.nii.gz", spacing)
    with pytest.raises(BadCase, match=f"says that its voxels are {shown} mm; save it again with the spacing"):
        check_image("a", [file], READER)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_colours_are_named_with_what_to_do(tmp_path, ending):
    image = sitk.GetImageFromArray(np.zeros((*tiny.SHAPE, 3), np.uint8), isVector=True)
    sitk.WriteImage(image, str(tmp_path / f"a{ending}"))
    with pytest.raises(BadCase, match=r"has 3 values per voxel .colours or vectors.*save a grey image"):
        check_image("a", [tmp_path / f"a{ending}"], READER)


def test_complex_numbers_are_named_with_what_to_do(tmp_path):
    file = nifti(tmp_path / "a.nii.gz", (VOXELS + 1j).astype(np.complex64))
    with pytest.raises(BadCase, match="holds complex numbers; save their magnitude"):
        check_image("a", [file], READER)


def test_a_file_with_several_volumes_is_named_with_what_to_do(tmp_path):
    file = nifti(tmp_path / "a.nii.gz", np.stack([VOXELS] * 5, axis=-1))
    assert volumes_in(file) == 5
    with pytest.raises(
        BadCase, match=r"hold 5 channel.s., but 1 are expected.*holds 5 volumes; save those that are wanted one by one"
    ):
        check_image("a", [file], READER, channels=1)


def test_axes_that_are_not_at_right_angles_name_the_reader_that_takes_them(tmp_path):
    sheared = np.eye(4)
    sheared[1, 2] = 0.25
    file = nifti(tmp_path / "a.nii.gz", affine=sheared)
    with pytest.raises(BadCase, match=r"overwrite_image_reader_writer.: .NibabelIO. in dataset.json and plan again"):
        check_image("a", [file], READER)
    nibabel_reader = image_reader({**tiny.make_plans(), "image_reader_writer": "NibabelIO"})
    assert check_image("a", [file], nibabel_reader).geometry.shape == tiny.SHAPE


def test_channels_on_one_grid_within_rounding_are_not_apart(tmp_path):
    files = tiny.write_images(tmp_path, "a")
    assert channels_apart(files) == ""
    tiny.write_image(files[1], tiny.intensities(1), spacing=(1.000001, 1.0, 3.0))
    assert channels_apart(files) == "" and check_image("a", files, READER).warnings == ()


def test_channels_that_lie_apart_say_by_how_much(tmp_path):
    files = tiny.write_images(tmp_path, "a")
    turned = np.array([[np.cos(0.1), -np.sin(0.1), 0], [np.sin(0.1), np.cos(0.1), 0], [0, 0, 1]])
    tiny.write_image(files[1], tiny.intensities(1), origin=(5.0, -7.0, 14.0), direction=turned.ravel())
    (warning,) = check_image("a", files, READER).warnings
    for said in (channels_apart(files), warning):
        assert "origins 12 mm apart" in said and "axes turned by 5.73 degrees" in said and "a_0001.nii.gz" in said


def test_a_file_that_is_no_image_is_left_to_whoever_reads_it(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"nothing")
    (tmp_path / "a.png").write_bytes(b"nothing")
    assert header_fault(tmp_path / "a.nii.gz") is None and header_fault(tmp_path / "a.png") is None
    assert volumes_in(tmp_path / "a.nii.gz") == 1 and channels_apart([tmp_path / "a.nii.gz"]) == ""
