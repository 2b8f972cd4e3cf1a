from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from scipy.ndimage import gaussian_filter
from tiny_dicom import contours_of, write_structure_set
from tiny_spaces import DIRECTIONS, affine, write_nifti

from nnunet_active.data.dicom_label import is_dicom_label
from nnunet_active.data.geometry import Geometry
from nnunet_active.data.label_reader import find_label_files, read_label
from nnunet_active.util.errors import BadCase

LABELS = {"labels": {"background": 0, "necrosis": 1, "core": 2, "oedema": 3}}
SHAPE = (24, 40, 36)  # Z, Y, X


def blobs() -> np.ndarray:
    """Two regions that do not overlap, (2, Z, Y, X), of at least 20 voxels across and with holes."""
    noise = gaussian_filter(np.random.default_rng(3).normal(size=SHAPE), 3)
    z, y, x = np.indices(SHAPE)
    body = ((z - 12) / 11) ** 2 + ((y - 20) / 17) ** 2 + ((x - 17) / 14) ** 2 + 6 * noise < 1
    core = ((z - 12) / 4) ** 2 + ((y - 20) / 6) ** 2 + ((x - 17) / 5) ** 2 < 1
    return np.stack([body & ~core, core])


def expected(masks: np.ndarray) -> np.ndarray:
    return (3 * masks[0] + 2 * masks[1]).astype(np.uint8)


@pytest.fixture(params=["identity", "permuted", "oblique", "oblique and mirrored"])
def image(tmp_path, request):
    return write_nifti(tmp_path / "images" / "a_0000.nii.gz", DIRECTIONS[request.param], array=np.zeros(SHAPE))


@pytest.fixture
def oblique(tmp_path):
    return write_nifti(tmp_path / "images" / "a_0000.nii.gz", DIRECTIONS["oblique"], array=np.zeros(SHAPE))


def space(image) -> np.ndarray:
    return Geometry.of_file(image).affine


def read(file, image, labels=LABELS):
    return read_label("a", file, image, labels, SimpleITKIO, ".nii.gz")


def square(affine: np.ndarray, z=4.0, low=3.5, high=20.5) -> np.ndarray:
    corners = np.array([(low, low, z), (low, high, z), (high, high, z), (high, low, z)])
    return corners @ affine[:3, :3].T + affine[:3, 3]


@pytest.mark.parametrize("axis", [0, 1, 2], ids="xyz")
def test_the_contours_of_a_label_are_the_label_voxel_for_voxel(tmp_path, image, axis):
    """Oblique and anisotropic, along any axis, with holes, by the names of the regions, in hundredths of a millimetre."""
    body, core = (contours_of(mask, space(image), axis) for mask in blobs())
    file = write_structure_set(tmp_path / "a.dcm", [("Core", core), ("oedema", body)])
    np.testing.assert_array_equal(read(file, image).voxels, expected(blobs()))
    assert is_dicom_label(file) and find_label_files(tmp_path, ["a"], ".nii.gz")[0]["a"] == [file]


def test_smooth_contours_are_met_within_half_a_voxel(tmp_path, oblique):
    """A sphere in millimetres, drawn with few points; each voxel that differs lies within half a voxel of its surface."""
    steps, spacing = space(oblique), np.array(Geometry.of_file(oblique).spacing)
    middle, radius, angles = np.array([17.3, 20.6, 11.9]), 11.3, np.linspace(0, 2 * np.pi, 60, endpoint=False)
    contours = []
    for z in range(SHAPE[0]):
        rest = radius**2 - ((z - middle[2]) * spacing[2]) ** 2
        if rest > 0:
            around = np.sqrt(rest) * np.column_stack([np.cos(angles), np.sin(angles)]) / spacing[:2] + middle[:2]
            contours.append(np.insert(around, 2, z, axis=1) @ steps[:3, :3].T + steps[:3, 3])
    found = read(write_structure_set(tmp_path / "a.dcm", [("core", contours)]), oblique).voxels == 2
    away = np.linalg.norm((np.indices(SHAPE)[::-1].T - middle) * spacing, axis=-1).T
    wanted = away <= radius
    assert 2 * (found & wanted).sum() / (found.sum() + wanted.sum()) >= 0.99
    assert np.abs(away - radius)[found != wanted].max() <= 0.5 * spacing.min()


@pytest.mark.parametrize(("kind", "both"), [("CLOSED_PLANAR", 2), ("CLOSEDPLANAR_XOR", 0)])
def test_what_two_contours_of_a_region_enclose_belongs_to_it_unless_the_file_says_that_they_cancel_out(
    tmp_path, oblique, kind, both
):
    steps, wanted = space(oblique), np.zeros(SHAPE, dtype=np.uint8)
    wanted[4, 4:11, 4:11] = wanted[4, 9:21, 9:21] = 2
    wanted[4, 9:11, 9:11] = both
    drawn = [square(steps, high=10.5), square(steps, low=8.5)]
    file = write_structure_set(tmp_path / "a.dcm", [("core", drawn)], kind)
    np.testing.assert_array_equal(read(file, oblique).voxels, wanted)


def test_regions_that_overlap_are_refused_where_labels_exclude_each_other_and_painted_where_they_are_regions(
    tmp_path, oblique
):
    body, core = blobs()
    drawn = [("oedema", contours_of(body | core, space(oblique))), ("core", contours_of(core, space(oblique)))]
    file = write_structure_set(tmp_path / "a.dcm", drawn)
    with pytest.raises(BadCase, match=f"core and oedema overlap in {core.sum()} voxels"):
        read(file, oblique)
    regions = {"labels": {"background": 0, "oedema": [1, 2], "core": 2}, "regions_class_order": [1, 2]}
    np.testing.assert_array_equal(read(file, oblique, regions).voxels, (body | core) + core.astype(np.uint8))


def test_a_region_that_is_no_label_is_refused_by_its_name_whatever_its_number(tmp_path, oblique):
    """The numbers of regions mean nothing, so that the first one is not taken for the label 1."""
    file = write_structure_set(tmp_path / "a.dcm", [("BODY", [square(space(oblique))])])
    with pytest.raises(BadCase, match=r"a segment 'BODY' that is none of the data set's labels"):
        read(file, oblique)


@pytest.mark.parametrize(
    ("rois", "kind"), [([], "CLOSED_PLANAR"), ([("core", [])], "CLOSED_PLANAR"), ([("core", None)], "POINT")]
)
def test_a_structure_set_without_a_contour_of_any_label_is_refused(tmp_path, oblique, rois, kind):
    rois = [(name, [square(space(oblique))[:1]] if drawn is None else drawn) for name, drawn in rois]
    with pytest.raises(BadCase, match="has no contours of any label"):
        read(write_structure_set(tmp_path / "a.dcm", rois, kind), oblique)


def test_open_contours_are_refused(tmp_path, oblique):
    file = write_structure_set(tmp_path / "a.dcm", [("core", [square(space(oblique))])], "OPEN_PLANAR")
    with pytest.raises(BadCase, match="has an open contour of 'core'"):
        read(file, oblique)


def test_contours_within_a_tenth_of_the_distance_of_a_slice_are_taken_and_others_refused(tmp_path, oblique):
    wanted = np.zeros(SHAPE, dtype=np.uint8)
    wanted[4, 4:21, 4:21] = 2
    for z in (3.91, 4.09):
        file = write_structure_set(tmp_path / "a.dcm", [("core", [square(space(oblique), z)])])
        np.testing.assert_array_equal(read(file, oblique).voxels, wanted)
    for z, away in ((4.2, "0.66."), (3.52, "1.5.")):
        file = write_structure_set(tmp_path / "a.dcm", [("core", [square(space(oblique), z)])])
        with pytest.raises(
            BadCase, match=f"a contour of 'core' up to {away} mm beside the slices of its image, 3.3 mm"
        ):
            read(file, oblique)


def test_tilted_contours_are_refused(tmp_path, oblique):
    drawn = square(affine(DIRECTIONS["oblique and mirrored"]), low=1, high=4)
    drawn += space(oblique)[:3] @ (15, 15, 12, 1) - drawn.mean(axis=0)
    with pytest.raises(BadCase, match="beside the slices of its image"):
        read(write_structure_set(tmp_path / "a.dcm", [("core", [drawn])]), oblique)


def test_a_contour_whose_points_do_not_lie_in_one_plane_is_refused(tmp_path, oblique):
    drawn = square(space(oblique))
    drawn[1] += space(oblique)[:3, 2]  # one corner on the next slice
    with pytest.raises(
        BadCase, match=r"a contour of 'core' whose points do not lie in one plane, but up to .* mm beside"
    ):
        read(write_structure_set(tmp_path / "a.dcm", [("core", [drawn])]), oblique)


@pytest.mark.parametrize("moved", [(0, 0, 100), (0, 0, -5), (30, 0, 0), (0, -5, 0)])
def test_contours_outside_the_image_are_refused(tmp_path, oblique, moved):
    drawn = square(space(oblique)) + space(oblique)[:3, :3] @ moved
    with pytest.raises(BadCase, match="a contour of 'core' that reaches outside its image"):
        read(write_structure_set(tmp_path / "a.dcm", [("core", [drawn])]), oblique)


def test_a_contour_along_the_border_of_the_image_is_inside(tmp_path, oblique):
    file = write_structure_set(tmp_path / "a.dcm", [("core", contours_of(np.ones(SHAPE, bool), space(oblique)))])
    assert (read(file, oblique).voxels == 2).all()


def test_slices_that_were_passed_over_are_told(tmp_path, oblique):
    drawn = [square(space(oblique), z) for z in (2, 4, 8)]
    found = read(write_structure_set(tmp_path / "a.dcm", [("core", drawn)]), oblique)
    assert found.notes == ("'core' has no contour in 4 of the slices between its first and its last one",)
    assert np.flatnonzero(found.voxels.any(axis=(1, 2))).tolist() == [2, 4, 8]


def test_a_region_that_holds_no_voxel_is_told(tmp_path, oblique):
    drawn = [("core", [square(space(oblique), low=3.2, high=3.8)]), ("oedema", [square(space(oblique))])]
    found = read(write_structure_set(tmp_path / "a.dcm", drawn), oblique)
    assert found.notes == ("'core' is too small to hold the centre of a voxel",) and not (found.voxels == 2).any()


def test_a_2d_image_is_one_slice(tmp_path):
    picture = sitk.GetImageFromArray(np.zeros((30, 26), dtype=np.uint8))
    picture.SetSpacing((0.5, 0.75))
    sitk.WriteImage(picture, str(tmp_path / "a_0000.nii.gz"))
    file = write_structure_set(tmp_path / "a.dcm", [("core", [square(np.diag([0.5, 0.75, 1, 1]), 0)])])
    wanted = np.zeros((1, 30, 26), dtype=np.uint8)
    wanted[0, 4:21, 4:21] = 2
    np.testing.assert_array_equal(read(file, tmp_path / "a_0000.nii.gz").voxels, wanted)


def test_a_sheared_image_takes_contours_too(tmp_path):
    """The gantry was tilted: ITK refuses such a NIfTI file, nibabel reads it."""
    matrix = np.array([[-1.0, 0, 0, 5], [0, -1, 0.4, 9], [0, 0, 3, -7], [0, 0, 0, 1]])
    image = nibabel.Nifti1Image(np.zeros(SHAPE[::-1], dtype=np.float32), None)
    image.set_sform(matrix, code=1)
    image.set_qform(None, code=0)
    image.to_filename(tmp_path / "a_0000.nii.gz")
    geometry = Geometry.of_file(tmp_path / "a_0000.nii.gz", SHAPE)
    core = blobs()[1]
    file = write_structure_set(tmp_path / "a.dcm", [("core", contours_of(core, geometry.affine))])
    np.testing.assert_array_equal(read(file, tmp_path / "a_0000.nii.gz").voxels, 2 * core)
