from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from tiny_spaces import DIRECTIONS, MARKER, SHAPE, itk_geometry, voxels, write_itk, write_nifti

from nnunet_active.data.geometry import Geometry
from nnunet_active.data.maps import (
    map_ending,
    read_in_file_order,
    write_map_like,
)
from nnunet_active.data.nifti import read_nifti_header
from nnunet_active.data.nrrd import read_nrrd_geometry

DIRECTION = pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
SPACE_FIELDS = (
    *("dim", "pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x"),
    *("qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)


def marked(dtype=np.uint8) -> np.ndarray:
    array = np.zeros(SHAPE, dtype=dtype)
    array[MARKER] = 2
    return array


def point_of_marker(file) -> tuple[float, ...]:
    image = sitk.ReadImage(str(file))
    array = sitk.GetArrayFromImage(image)
    (place,) = np.argwhere(array == array.max()).tolist()
    return image.TransformIndexToPhysicalPoint(place[::-1])


@DIRECTION
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
@pytest.mark.parametrize("codes", [(1, 1), (0, 2), (1, 0), (2, 4)])
def test_a_nifti_file_has_the_geometry_of_its_image_bit_for_bit(tmp_path, direction, dtype, ending, codes):
    image = write_nifti(tmp_path / f"image{ending}", direction, codes)
    target = tmp_path / f"label{ending}"
    write_map_like(marked(dtype), image, target, ending)
    expected, found = read_nifti_header(image), read_nifti_header(target)
    for field in SPACE_FIELDS:
        assert found[field].tobytes() == expected[field].tobytes(), field
    assert np.array_equal(nibabel.load(target).affine, nibabel.load(image).affine)
    assert itk_geometry(target) == itk_geometry(image)
    assert point_of_marker(target) == point_of_marker(image)
    assert np.array_equal(read_in_file_order(target, ending), marked(dtype))
    assert nibabel.load(target).get_data_dtype() == dtype


def test_itk_alone_would_not_have_kept_the_nifti_header(tmp_path):
    """Why the fields are copied: read and written by SimpleITK, oblique directions change in the last digits."""
    image = write_nifti(tmp_path / "image.nii.gz", DIRECTIONS["oblique"])
    sitk.WriteImage(sitk.ReadImage(str(image)), str(tmp_path / "copy.nii.gz"))
    one, other = read_nifti_header(image), read_nifti_header(tmp_path / "copy.nii.gz")
    assert any(one[field].tobytes() != other[field].tobytes() for field in SPACE_FIELDS)


def test_a_big_endian_image_is_followed(tmp_path):
    image = write_nifti(tmp_path / "image.nii.gz", DIRECTIONS["oblique"], order=">")
    write_map_like(marked(), image, tmp_path / "label.nii.gz", ".nii.gz")
    assert itk_geometry(tmp_path / "label.nii.gz") == itk_geometry(image)
    assert point_of_marker(tmp_path / "label.nii.gz") == point_of_marker(image)


def test_a_nifti_2_image_is_followed_though_itk_cannot_read_it(tmp_path):
    image = write_nifti(tmp_path / "image.nii.gz", DIRECTIONS["oblique"], kind=nibabel.Nifti2Image)
    write_map_like(marked(), image, tmp_path / "label.nii.gz", ".nii.gz")
    found, expected = nibabel.load(tmp_path / "label.nii.gz"), nibabel.load(image)
    assert isinstance(found, nibabel.Nifti2Image) and np.array_equal(found.affine, expected.affine)
    assert np.array_equal(read_in_file_order(tmp_path / "label.nii.gz", ".nii.gz"), marked())
    assert Geometry.of_file(image, SHAPE).size == SHAPE[::-1]


def test_a_nifti_file_that_is_named_gz_but_is_not_compressed_is_followed(tmp_path):
    image = write_nifti(tmp_path / "image.nii", DIRECTIONS["oblique"]).rename(tmp_path / "image.nii.gz")
    write_map_like(marked(), image, tmp_path / "label.nii.gz", ".nii.gz")
    assert np.array_equal(read_in_file_order(tmp_path / "label.nii.gz", ".nii.gz"), marked())


def test_scaling_and_names_of_the_image_are_not_taken_over(tmp_path):
    image = write_nifti(tmp_path / "image.nii.gz", DIRECTIONS["flipped"])
    original = nibabel.load(image)
    original.header["descrip"] = b"Doe^Jane"
    scaled = nibabel.Nifti1Image(original.get_fdata(), None, original.header)
    scaled.header.set_data_dtype(np.int16)
    scaled.to_filename(tmp_path / "scaled.nii.gz")
    assert nibabel.load(tmp_path / "scaled.nii.gz").dataobj.slope != 1
    write_map_like(marked(), tmp_path / "scaled.nii.gz", tmp_path / "label.nii.gz", ".nii.gz")
    found = nibabel.load(tmp_path / "label.nii.gz")
    assert np.array_equal(np.unique(found.dataobj), [0, 2]) and not found.header["descrip"].tobytes().strip(b"\0")


@DIRECTION
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_metaimage_and_nrrd_files_have_the_geometry_of_their_image_bit_for_bit(tmp_path, direction, dtype, ending):
    image = write_itk(tmp_path / f"image{ending}", direction)
    target = tmp_path / f"label{ending}"
    write_map_like(marked(dtype), image, target, ending)
    assert itk_geometry(target) == itk_geometry(image)
    assert point_of_marker(target) == point_of_marker(image)
    assert np.array_equal(read_in_file_order(target, ending), marked(dtype))


def test_a_nrrd_file_in_another_space_keeps_its_lines(tmp_path):
    image = write_itk(tmp_path / "lps.nrrd", DIRECTIONS["oblique"])
    content = image.read_bytes().replace(b"left-posterior-superior", b"right-anterior-superior")
    content = content.replace(b"encoding: raw\n", b"encoding: raw\n# a comment: with colon\nDoe:=Jane\n")
    (tmp_path / "ras.nrrd").write_bytes(content)
    write_map_like(marked(), tmp_path / "ras.nrrd", tmp_path / "label.nrrd", ".nrrd")
    assert read_nrrd_geometry(tmp_path / "label.nrrd") == read_nrrd_geometry(tmp_path / "ras.nrrd")
    assert itk_geometry(tmp_path / "label.nrrd") == itk_geometry(tmp_path / "ras.nrrd") != itk_geometry(image)
    assert b"Jane" not in (tmp_path / "label.nrrd").read_bytes()


@pytest.mark.parametrize("ending", [".nii.gz", ".mha", ".nrrd"])
def test_a_two_dimensional_image_gets_a_two_dimensional_label(tmp_path, ending):
    image = sitk.GetImageFromArray(voxels()[4])
    image.SetSpacing((0.3, 0.71))
    image.SetOrigin((4.4, -2.1))
    sitk.WriteImage(image, str(tmp_path / f"image{ending}"))
    write_map_like(marked()[5:6], tmp_path / f"image{ending}", tmp_path / f"label{ending}", ending)
    assert itk_geometry(tmp_path / f"label{ending}") == itk_geometry(tmp_path / f"image{ending}")
    assert np.array_equal(read_in_file_order(tmp_path / f"label{ending}", ending), marked()[5:6])
    space = Geometry.of_file(tmp_path / f"image{ending}", (1, *SHAPE[1:]))
    assert space.size == (10, 12, 1) and space.spacing == pytest.approx((0.3, 0.71, 1))


@pytest.mark.parametrize("ending", [".nii.gz", ".mha", ".nrrd", ".gipl"])
def test_another_size_is_refused(tmp_path, ending):
    image = write_itk(tmp_path / f"image{ending}", DIRECTIONS["identity"])
    with pytest.raises(ValueError, match="not those of the prediction"):
        write_map_like(marked()[:, :, :-1], image, tmp_path / f"label{ending}", ending)


def test_maps_keep_the_format_where_it_can_hold_them():
    assert [map_ending(e) for e in (".nii.gz", ".nii", ".nrrd", ".mha", ".gipl", ".png", ".tif")] == [
        *(".nii.gz", ".nii.gz", ".nrrd", ".mha", ".nii.gz", ".nii.gz", ".nii.gz")
    ]
