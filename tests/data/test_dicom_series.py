from __future__ import annotations

import shutil

import numpy as np
import pytest
from tiny_dicom import change, write_dicom, write_series
from tiny_spaces import DIRECTIONS, SHAPE, affine

from nnunet_active.data.dicom_series import find_series
from nnunet_active.util.errors import MissingInput

STEPS = affine(DIRECTIONS["oblique"])
VOXELS = np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE)


def test_series_are_found_at_any_depth_by_patient_study_and_number(tmp_path):
    write_series(tmp_path / "x", VOXELS, STEPS, PatientID="b", SeriesDescription="la\x1bte")
    write_series(tmp_path / "y" / "deep", VOXELS, STEPS, PatientID="a", SeriesNumber=2, StudyInstanceUID="1.2.3")
    write_series(tmp_path / "z", VOXELS, STEPS, PatientID="a", SeriesNumber=1, StudyInstanceUID="1.2.3")
    found = find_series(tmp_path)
    assert [(one.patient, one.planes[0].file.parent.name) for one in found.series] == [
        ("a", "z"),
        ("a", "deep"),
        ("b", "x"),
    ]
    assert found.series[2].description == "late" and found.series[0].size() == "10 x 12 x 9 of 0.7812 x 1.1 x 3.3 mm"


def test_series_are_found_in_a_folder_that_is_linked(tmp_path):
    write_series(tmp_path / "archive" / "x", VOXELS, STEPS, PatientID="b")
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "x").symlink_to(tmp_path / "archive" / "x")
    assert [one.patient for one in find_series(tmp_path / "scans").series] == ["b"]


def test_other_objects_other_files_and_damaged_ones_are_no_series(tmp_path):
    files = write_series(tmp_path / "x", VOXELS, STEPS)
    write_dicom(tmp_path / "seg.dcm", np.ones((1, *SHAPE), dtype=bool), ["core"], STEPS)
    (tmp_path / "notes.txt").write_text("DICM")
    (tmp_path / ".hidden").write_bytes(files[0].read_bytes())
    change(files[0], PixelSpacing=["1"])
    found = find_series(tmp_path)
    assert (len(found.series), found.others, found.damaged) == (1, 1, [files[0]])


def test_an_image_that_was_copied_twice_is_taken_once(tmp_path):
    files = write_series(tmp_path / "x", VOXELS, STEPS)
    shutil.copy(files[0], tmp_path / "copy.dcm")
    (series,) = find_series(tmp_path).series
    assert series.fault() == "" and series.notes() == ["has 1 image(s) twice; each is taken once"]
    np.testing.assert_array_equal(series.volume().read(), VOXELS)


@pytest.mark.parametrize("said", [{"ImagePositionPatient": [9, 9, 9]}, {"ImageOrientationPatient": [0, 1, 0, 1, 0, 0]}])
def test_images_of_different_places_that_share_their_uid_are_no_copies_but_a_fault(tmp_path, said):
    files = write_series(tmp_path / "x", VOXELS, STEPS)
    shutil.copy(files[0], tmp_path / "x" / "other")
    change(tmp_path / "x" / "other", **said)
    (series,) = find_series(tmp_path).series
    assert len(series.planes) == len(files) + 1 and series.copies == 0
    assert series.fault().startswith("has images of different places with the same SOPInstanceUID")


def test_images_without_a_place_are_copies_where_they_share_their_uid(tmp_path):
    files = write_series(tmp_path / "x", VOXELS, STEPS)
    change(files[0], ImagePositionPatient=None)
    shutil.copy(files[0], tmp_path / "copy.dcm")
    (series,) = find_series(tmp_path).series
    assert series.copies == 1 and "SOPInstanceUID" not in series.fault()


def test_patients_without_an_id_are_told_apart_by_their_studies(tmp_path):
    for name in "ab":
        write_series(tmp_path / name, VOXELS, STEPS, PatientID="")
    assert len({one.patient for one in find_series(tmp_path).series}) == 2


def test_blanks_around_an_id_make_no_other_patient_and_blanks_alone_are_none(tmp_path):
    for number, patient in enumerate(("bob", " bob", "\t")):
        write_series(tmp_path / str(number), VOXELS, STEPS, PatientID=patient, StudyInstanceUID=f"1.{number}")
    assert [one.patient for one in find_series(tmp_path).series] == ["1.2", "bob", "bob"]


def test_a_series_whose_images_have_several_patients_ids_is_of_no_use(tmp_path):
    files = write_series(tmp_path / "x", VOXELS, STEPS)
    change(files[4], PatientID="somebody else")
    (series,) = find_series(tmp_path).series
    assert series.fault() == "has images with different patients' IDs; keep those of one patient in the folder"


def test_a_folder_without_images_is_said(tmp_path):
    with pytest.raises(MissingInput, match="holds no DICOM images"):
        find_series(tmp_path)
    with pytest.raises(MissingInput, match="was not found"):
        find_series(tmp_path / "nowhere")
