from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from tiny_spaces import DIRECTIONS, SHAPE, itk_geometry, write_itk, write_nifti, write_with_two_forms

from nnunet_active.data.file_endings import carries_geometry
from nnunet_active.data.geometry import Geometry, other_geometries, size_then_and_now

DIRECTION = pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)


@DIRECTION
def test_space_is_that_of_itk_and_positions_are_its_points(tmp_path, direction):
    file = write_nifti(tmp_path / "image.nii.gz", direction)
    space, image = Geometry.of_file(file, SHAPE), sitk.ReadImage(str(file))
    assert space.size == image.GetSize() and np.allclose(space.spacing, image.GetSpacing())
    assert np.allclose(space.position((3, 7, 5)), image.TransformIndexToPhysicalPoint((3, 7, 5)))


def test_planes_are_named_by_the_axis_they_are_closest_to(tmp_path):
    planes = {
        name: Geometry.of_file(write_itk(tmp_path / f"{name}.mha", direction)).planes()
        for name, direction in DIRECTIONS.items()
    }
    assert planes["identity"] == planes["flipped"] == planes["oblique"] == ("sagittal", "coronal", "axial")
    assert planes["permuted"] == ("axial", "sagittal", "coronal")


def test_a_sheared_nifti_image_that_itk_refuses_still_has_a_space(tmp_path):
    sheared = DIRECTIONS["identity"].copy()
    sheared[0, 1] = 0.4
    file = write_nifti(tmp_path / "image.nii.gz", sheared, codes=(0, 1))
    with pytest.raises(RuntimeError):
        itk_geometry(file)
    space = Geometry.of_file(file, SHAPE)
    assert np.allclose(np.diag([-1, -1, 1, 1]) @ space.affine, nibabel.load(file).affine)


def test_a_format_without_geometry_has_unit_steps_and_says_so():
    geometry = Geometry.of_shape((3, 4, 5), (9.0, 2.0, 1.0))
    assert not geometry.known and geometry.size == (5, 4, 3) and geometry.spacing == (1.0, 2.0, 9.0)
    assert geometry.fits(Geometry.of_shape((3, 4, 5)))  # nobody says where they lie
    assert carries_geometry("a.NII.GZ") and carries_geometry(".seg.nrrd") and not carries_geometry("a.tif")


def test_a_flat_image_is_one_slice_and_further_axes_are_left_out():
    flat = Geometry.of_facts((4, 3), (0.5, 0.7), (1.0, 2.0), (0.0, -1.0, 1.0, 0.0))
    assert flat.size == (4, 3, 1) and flat.dimension == 2 and flat.spacing == (0.5, 0.7, 1.0)
    assert flat.position((1, 0, 0)) == (1.0, 2.5, 0.0)
    many = Geometry.of_facts((4, 3, 2, 9), (1, 1, 2, 1), (0, 0, 5, 0), np.eye(4).ravel())
    assert many.size == (4, 3, 2) and many.dimension == 4 and many.voxel_mm3 == 2 and many.origin == (0, 0, 5)


def test_grids_fit_within_rounding_and_not_beyond():
    grid = Geometry.of_facts((10, 10, 10), (1, 1, 3), (0, 0, 0), np.eye(3).ravel())
    rounded = Geometry.of_facts((10, 10, 10), (1.001, 1, 3), (0, 0.05, 0), np.eye(3).ravel())
    shifted = Geometry.of_facts((10, 10, 10), (1, 1, 3), (0, 0, 3), np.eye(3).ravel())
    assert grid.fits(rounded) and not grid.fits(shifted) and grid.distance(shifted) == pytest.approx(3)


def test_the_size_of_an_image_that_was_exported_again_differs_from_that_of_what_was_made_for_it(tmp_path):
    image = write_itk(tmp_path / "image.mha", DIRECTIONS["oblique"])
    made = write_itk(tmp_path / "made.nrrd", DIRECTIONS["oblique"])
    assert size_then_and_now(made, image) is None
    sitk.WriteImage(sitk.ReadImage(str(image))[:, :, :-2], str(image))
    then, now = size_then_and_now(made, image)
    x, y, z = SHAPE[::-1]
    assert then == f"{x} x {y} x {z}" and now == f"{x} x {y} x {z - 2}"
    (tmp_path / "broken.mha").write_bytes(b"")
    for other in ("absent.mha", "broken.mha", "picture.png"):
        assert size_then_and_now(tmp_path / other, image) is None


@pytest.mark.parametrize(
    ("codes", "seen"), [((1, 1), "qform"), ((1, 2), "sform"), ((2, 1), "qform"), ((1, 4), "sform")]
)
def test_the_other_of_two_geometries_in_a_header_is_the_one_that_itk_does_not_go_by(tmp_path, codes, seen):
    file = write_with_two_forms(tmp_path / "image.nii.gz", codes, DIRECTIONS["oblique"])
    image = nibabel.load(file)
    other = Geometry.of_ras(image.shape, image.get_qform() if seen == "qform" else image.get_sform())
    (found,) = other_geometries(file)
    assert found.distance(other) < 1e-3
    assert Geometry.of_file(file).distance(other) > 1


@pytest.mark.parametrize("codes", [(1, 0), (0, 1), (2, 0), (0, 4)])
def test_a_header_with_one_geometry_or_two_alike_has_no_other(tmp_path, codes):
    assert other_geometries(write_with_two_forms(tmp_path / "one.nii.gz", codes, DIRECTIONS["oblique"])) == []
    assert other_geometries(write_nifti(tmp_path / "alike.nii.gz", DIRECTIONS["oblique"], codes=(1, 2))) == []
    assert other_geometries(write_itk(tmp_path / "image.mha", DIRECTIONS["oblique"])) == []
    assert other_geometries(tmp_path / "gone.nii.gz") == []


def test_where_no_form_has_a_code_nibabel_sees_the_image_elsewhere_than_itk(tmp_path):
    file = write_with_two_forms(tmp_path / "image.nii.gz", (0, 0), DIRECTIONS["oblique"])
    (found,) = other_geometries(file)
    assert found.distance(Geometry.of_ras(SHAPE[::-1], nibabel.load(file).affine)) < 1e-3


def test_negative_spacings_count_as_nibabel_takes_them(tmp_path):
    file = write_with_two_forms(tmp_path / "image.nii.gz", (0, 0), DIRECTIONS["identity"])
    image = nibabel.load(file)
    header = image.header.copy()
    header["pixdim"][1] *= -1
    stored = nibabel.Nifti1Image(np.asanyarray(image.dataobj), None, header)
    stored.header["pixdim"][1] = header["pixdim"][1]
    with file.with_suffix("").open("wb") as content:
        stored.to_stream(content)
    seen = nibabel.load(file.with_suffix("")).affine
    (found,) = other_geometries(file.with_suffix(""))
    assert found.distance(Geometry.of_ras(SHAPE[::-1], seen)) < 1e-3


def test_every_form_that_itk_does_not_go_by_is_named(tmp_path, monkeypatch):
    file = write_with_two_forms(tmp_path / "image.nii.gz", (1, 1), DIRECTIONS["oblique"])
    third = np.diag([2.0, 2.0, 2.0, 1.0])
    monkeypatch.setattr(nibabel.Nifti1Header, "get_best_affine", lambda header: third)
    first, second = other_geometries(file)
    assert second.distance(Geometry.of_ras(SHAPE[::-1], third)) < 1e-3 and not first.fits(second)
