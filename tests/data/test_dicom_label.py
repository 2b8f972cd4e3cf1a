from __future__ import annotations

import sys

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from tiny_dicom import series, write_dicom, write_structure_set
from tiny_spaces import DIRECTIONS, SHAPE, write_nifti

from nnunet_active.data.dicom_label import is_dicom_label
from nnunet_active.data.geometry import Geometry
from nnunet_active.data.label_reader import find_label_files, read_label
from nnunet_active.util.errors import BadCase

LABELS = {"labels": {"background": 0, "oedema": 1}}


@pytest.fixture
def oblique(tmp_path):
    return write_nifti(tmp_path / "images" / "a_0000.nii.gz", DIRECTIONS["oblique"])


def read(file, image):
    return read_label("a", file, image, LABELS, SimpleITKIO, ".nii.gz")


def space(image) -> np.ndarray:
    return Geometry.of_file(image).affine


def _segmentation(file, image):
    mask = np.zeros((1, *SHAPE), dtype=bool)
    mask[0, 2:5, 3:7, 1:5] = True
    return write_dicom(file, mask, ["oedema"], space(image))


def _structure_set(file, image):
    square = space(image) @ np.array([(1, 3, 2, 1), (5, 3, 2, 1), (5, 7, 2, 1), (1, 7, 2, 1)]).T
    return write_structure_set(file, [("oedema", [square[:3].T])])


@pytest.mark.parametrize("written", [_segmentation, _structure_set])
def test_files_of_another_kind_and_damaged_ones_are_one_sentence_that_tells_nothing_of_the_patient(
    tmp_path, oblique, written
):
    file = written(tmp_path / "a.dcm", oblique)
    whole = file.read_bytes()
    for content in (whole[:-40], whole[:-300], b"", whole[200:]):
        file.write_bytes(content)
        with pytest.raises(BadCase, match=r"^Case a: the label .*a\.dcm (cannot be read|is no DICOM)") as error:
            read(file, oblique)
        assert "Secret" not in str(error.value) and "4711" not in str(error.value)
    one = series(SHAPE, space(oblique))[0]
    one.save_as(file, enforce_file_format=True)
    with pytest.raises(BadCase, match=r"is no DICOM segmentation \(CT Image Storage\); export it as one"):
        read(file, oblique)
    assert not is_dicom_label(file)


@pytest.mark.parametrize("end_marks", [False, True])
def test_a_structure_set_that_was_copied_in_part_is_refused_wherever_it_ends(tmp_path, oblique, end_marks):
    pydicom = pytest.importorskip("pydicom")
    file = _structure_set(tmp_path / "a.dcm", oblique)
    content = pydicom.dcmread(file)
    for sequence in (content["ROIContourSequence"], content.ROIContourSequence[0]["ContourSequence"]):
        sequence.is_undefined_length = end_marks
        for item in sequence.value:
            item.is_undefined_length_sequence_item = end_marks
    content.save_as(file)
    whole = file.read_bytes()
    assert read(file, oblique).voxels.any()
    for length in range(140, len(whole) - (8 if end_marks else 0)):  # the last end mark says nothing new
        file.write_bytes(whole[:length])
        with pytest.raises(BadCase, match=r"(cannot be read|is no DICOM seg|has no contours)"):
            read(file, oblique)


def test_without_pydicom_it_is_said_what_to_install(tmp_path, oblique, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    file = tmp_path / "a.dcm"
    file.write_bytes(b"\0" * 128 + b"DICM")
    with pytest.raises(
        BadCase, match=r'a.dcm is a DICOM file; pip install "nnunet_active\[dicom\]" brings what reads it'
    ):
        read(file, oblique)


def test_an_image_that_does_not_say_where_it_lies_takes_none(tmp_path):
    sitk.WriteImage(sitk.Image(4, 4, sitk.sitkUInt8), str(tmp_path / "a_0000.png"))
    (tmp_path / "a.dcm").write_bytes(b"")
    with pytest.raises(BadCase, match="does not say where it lies"):
        read(tmp_path / "a.dcm", tmp_path / "a_0000.png")


def test_labels_that_belong_to_no_case_are_named_and_other_dicom_files_passed_over(tmp_path):
    for name, kind in (("scan.dcm", b"2"), ("seg.dcm", b"66.4"), ("contours.dcm", b"481.3"), ("dose.dcm", b"481.2")):
        (tmp_path / name).write_bytes(b"\0" * 128 + b"DICM 1.2.840.10008.5.1.4.1.1." + kind + b"\0 more")
    (tmp_path / "empty.dcm").write_bytes(b"")
    assert find_label_files(tmp_path, ["a"], ".nii.gz") == ({}, [tmp_path / "contours.dcm", tmp_path / "seg.dcm"])
