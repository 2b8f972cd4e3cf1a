from __future__ import annotations

import numpy as np
import pytest
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from tiny_dicom import TURNS, turned, write_dicom
from tiny_spaces import DIRECTIONS, SHAPE, affine, write_nifti

from nnunet_active.data.dicom_label import is_dicom_label
from nnunet_active.data.geometry import Geometry
from nnunet_active.data.label_reader import find_label_files, read_label
from nnunet_active.util.errors import BadCase

LABELS = {"labels": {"background": 0, "necrosis": 1, "core": 2, "oedema": 3}}
NAMES = ["oedema", "Core"]  # in another order than in the data set


def masks() -> np.ndarray:
    """Two segments in slices that are not neighbours, (2, Z, Y, X)."""
    found = np.zeros((2, *SHAPE), dtype=bool)
    found[0, 2, 3:7, 1:5] = found[0, 7, 8:, 6:] = True
    found[1, 2, 7:9, 5:8] = found[1, 4, 0, 0] = True
    return found


def expected(drawn: np.ndarray) -> np.ndarray:
    return (3 * drawn[0] + 2 * drawn[1]).astype(np.uint8)


@pytest.fixture(params=["oblique", "oblique and mirrored"])
def image(tmp_path, request):
    return write_nifti(tmp_path / "images" / "a_0000.nii.gz", DIRECTIONS[request.param])


@pytest.fixture
def oblique(tmp_path):
    return write_nifti(tmp_path / "images" / "a_0000.nii.gz", DIRECTIONS["oblique"])


def space(image) -> np.ndarray:
    return Geometry.of_file(image).affine


def read(file, image, labels=LABELS):
    return read_label("a", file, image, labels, SimpleITKIO, ".nii.gz")


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_a_segmentation_with_frames_for_some_slices_only_is_the_label_voxel_for_voxel(tmp_path, image, kind, turn):
    """Oblique and anisotropic, with other axes than the image has, and by the names of the segments."""
    array, steps = turned(masks(), space(image), turn)
    file = write_dicom(tmp_path / "a.dcm", array, NAMES, steps, kind)
    found = read(file, image)
    np.testing.assert_array_equal(found.voxels, expected(masks()))
    assert is_dicom_label(file) and find_label_files(tmp_path, ["a"], ".nii.gz")[0]["a"] == [file]


def test_the_only_slice_that_has_a_frame_lies_where_it_was_drawn(tmp_path, oblique):
    drawn = masks()
    drawn[:, :7] = False
    file = write_dicom(tmp_path / "a.dcm", drawn, NAMES, space(oblique))
    np.testing.assert_array_equal(read(file, oblique).voxels, expected(drawn))


def test_all_frames_of_a_scan_and_fractions_that_are_none_are_taken_too(tmp_path, oblique):
    file = write_dicom(tmp_path / "a.dcm", masks(), NAMES, space(oblique), "FRACTIONAL", omit_empty_frames=False)
    found = read(file, oblique)
    np.testing.assert_array_equal(found.voxels, expected(masks()))
    assert found.notes == ()


def test_segments_that_overlap_are_refused_where_labels_exclude_each_other_and_painted_where_they_are_regions(
    tmp_path, oblique
):
    drawn = masks()
    drawn[0] |= drawn[1]  # the whole, and its core
    file = write_dicom(tmp_path / "a.dcm", drawn, NAMES, space(oblique))
    with pytest.raises(BadCase, match=f"core and oedema overlap in {drawn[1].sum()} voxels"):
        read(file, oblique)
    regions = {"labels": {"background": 0, "oedema": [1, 2], "core": 2}, "regions_class_order": [1, 2]}
    np.testing.assert_array_equal(read(file, oblique, regions).voxels, drawn[0] + drawn[1].astype(np.uint8))


def test_a_segment_that_is_no_label_is_refused_by_its_name(tmp_path, oblique):
    file = write_dicom(tmp_path / "a.dcm", np.concatenate([masks(), masks()[:1]]), [*NAMES, "liver"], space(oblique))
    with pytest.raises(BadCase, match="segment 'liver'"):
        read(file, oblique)


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_the_number_of_a_segment_says_nothing_about_its_label(tmp_path, oblique, kind):
    """The only segment of a file is number 1, and 1 is necrosis."""
    file = write_dicom(tmp_path / "a.dcm", masks()[:1], ["Tumour core"], space(oblique), kind)
    with pytest.raises(BadCase, match=r"a segment 'Tumour core' that is none of the data set's labels"):
        read(file, oblique)


@pytest.mark.parametrize(
    ("moved", "said"),
    [
        (np.array([0, 0, 0.4]), "shifted by"),
        (np.array([40.0, 0, 0]), "outside its image"),
    ],
)
def test_a_segmentation_of_another_place_is_refused(tmp_path, oblique, moved, said):
    steps = space(oblique)
    steps[:3, 3] += steps[:3, :3] @ moved
    file = write_dicom(tmp_path / "a.dcm", masks(), NAMES, steps)
    with pytest.raises(BadCase, match=said):
        read(file, oblique)


def test_frames_between_the_slices_of_the_image_are_refused(tmp_path, oblique):
    steps = affine(DIRECTIONS["oblique"], spacing=(0.7812345, 1.1, 2.0))
    file = write_dicom(tmp_path / "a.dcm", masks(), NAMES, steps)
    with pytest.raises(BadCase, match=r"frames that lie up to .* mm beside the slices of its image, 3.3 mm apart"):
        read(file, oblique)
