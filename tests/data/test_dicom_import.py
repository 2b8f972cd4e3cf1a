from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from full_disk import files_up_to
from tiny_dicom import change, write_series
from tiny_spaces import DIRECTIONS, SHAPE, affine

from nnunet_active.data import dicom_import
from nnunet_active.data.dicom_import import DicomCases
from nnunet_active.data.dicom_series import find_series
from nnunet_active.data.geometry import Geometry

STEPS = affine(DIRECTIONS["oblique"])
CHANNELS = ["T1", "FLAIR"]
VOXELS = [np.random.default_rng(n).integers(0, 900, SHAPE).astype(np.uint16) for n in range(2)]


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw" / "Dataset001_A"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def scans(tmp_path):
    for number in range(2):
        said = {"StudyInstanceUID": "1.1", "SeriesInstanceUID": f"1.1.{number}", "SeriesNumber": number + 1}
        write_series(tmp_path / "scans" / str(number), VOXELS[number], STEPS, **said)
    return tmp_path / "scans"


CASES = {"p001_1": {0: ("1.1", "1.1.0"), 1: ("1.1", "1.1.1")}}


def bring(raw, scans, cases=CASES, ending=".nii.gz"):
    return DicomCases(raw, CHANNELS, ending, find_series(scans).series).write(cases)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_the_channels_lie_where_the_series_lies_voxel_for_voxel_and_nothing_of_the_header_goes_along(
    raw, scans, ending
):
    assert bring(raw, scans, ending=ending).written == ["p001_1"]
    assert sorted(file.name for file in raw.rglob("*") if file.is_file()) == [
        f"p001_1_000{n}{ending}" for n in range(2)
    ]
    for number, voxels in enumerate(VOXELS):
        file = raw / "imagesTr" / f"p001_1_000{number}{ending}"
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(file))), voxels)
        np.testing.assert_allclose(Geometry.of_file(file).affine, STEPS, atol=1e-4)
        image = sitk.ReadImage(str(file))
        said = " ".join(f"{key} {image.GetMetaData(key)}" for key in image.GetMetaDataKeys())
        assert not any(secret in said for secret in ("Secret", "4711", "20260101", "1.1.0"))


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
def test_on_a_full_disk_no_case_is_left_in_part_and_the_same_call_goes_on_once_there_is_room(raw, scans, ending):
    with files_up_to(1000), pytest.raises(OSError, match=str(raw)):
        bring(raw, scans, ending=ending)
    assert not [file for file in raw.rglob("*") if file.is_file()]
    assert bring(raw, scans, ending=ending).written == ["p001_1"]


def test_what_is_there_is_not_written_again_nor_missed_where_the_scans_are_elsewhere(raw, scans):
    bring(raw, scans)
    before = [file.stat().st_mtime_ns for file in (raw / "imagesTr").iterdir()]
    assert bring(raw, scans).there == ["p001_1"]
    (scans / "1").rename(scans.parent / "elsewhere")
    assert bring(raw, scans).there == ["p001_1"]
    assert [file.stat().st_mtime_ns for file in (raw / "imagesTr").iterdir()] == before


def test_a_table_that_was_corrected_after_the_import_changes_no_image_and_that_is_said(raw, scans):
    bring(raw, scans)
    swapped = {"p001_1": {0: ("1.1", "1.1.1"), 1: ("1.1", "1.1.0")}}
    result = bring(raw, scans, swapped)
    assert result.there == [] and "p001_1_0000.nii.gz is there and is not the image" in result.problems["p001_1"]
    assert result.problems["p001_1"].endswith("move the case's images away and import again.")
    for file in sorted((raw / "imagesTr").iterdir()):
        file.rename(raw / file.name)
    assert bring(raw, scans, swapped).written == ["p001_1"]
    image = sitk.ReadImage(str(raw / "imagesTr" / "p001_1_0000.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), VOXELS[1])


def test_a_series_of_no_use_for_a_case_that_is_there_is_said_too(raw, scans):
    bring(raw, scans)
    next((scans / "1").glob("0004")).unlink()
    assert "the series for FLAIR lacks 1 slice(s)" in bring(raw, scans).problems["p001_1"]


@pytest.mark.parametrize("ending", [".gipl", ".gipl.gz"])
def test_a_scan_whose_turn_a_format_cannot_keep_is_refused_and_one_that_is_not_turned_is_taken(raw, tmp_path, ending):
    for name, steps in (("turned", STEPS), ("straight", np.diag([-0.8, -0.8, 3, 1]) @ np.diag([-1, -1, 1, 1]))):
        said = {"StudyInstanceUID": "1", "SeriesInstanceUID": f"1.{name == 'turned':d}"}
        write_series(tmp_path / "both" / name, VOXELS[0], steps, **said)
    cases = {name: {0: ("1", uid), 1: ("1", uid)} for name, uid in (("turned", "1.1"), ("straight", "1.0"))}
    result = bring(raw, tmp_path / "both", cases, ending)
    assert result.written == ["straight"]
    assert result.problems["turned"] == (
        f"Case turned: files that end in {ending} cannot say how the series for T1 is turned; set file_ending in dataset.json to "
        f".nii.gz."
    )
    assert {file.name[:8] for file in (raw / "imagesTr").iterdir()} == {"straight"}


def test_the_cases_that_the_data_set_has_are_known_whoever_made_them(raw, scans):
    importer = DicomCases(raw, CHANNELS, ".nii.gz", [])
    assert importer.names() == []
    bring(raw, scans)
    for name in ("old_0000.nii.gz", "old_0001.nii.gz", "other_0000.nrrd", ".p009_1_0000.nii.gz"):
        (raw / "imagesTr" / name).touch()
    assert importer.names() == ["old", "p001_1"]


def test_a_file_of_somebody_elses_is_not_replaced_and_nothing_is_put_beside_it(raw, scans):
    file = raw / "imagesTr" / "p001_1_0001.nii.gz"
    file.parent.mkdir()
    file.write_bytes(b"somebody's")
    assert f"{file} is there and is not the image" in bring(raw, scans).problems["p001_1"]
    assert [one.name for one in file.parent.iterdir()] == [file.name]


def test_after_a_kill_between_two_channels_the_same_call_goes_on(raw, scans, monkeypatch):
    bring(raw, scans)
    (raw / "imagesTr" / "p001_1_0001.nii.gz").unlink()
    assert bring(raw, scans).written == ["p001_1"]
    assert len(list((raw / "imagesTr").iterdir())) == 2


def test_an_error_at_the_second_channel_takes_the_first_one_back(raw, scans, monkeypatch):
    put = dicom_import._put

    def fail_later(made, target):
        if "_0001" in target.name:
            raise OSError(28, "No space left on device")
        put(made, target)

    monkeypatch.setattr(dicom_import, "_put", fail_later)
    with pytest.raises(OSError, match="No space"):
        bring(raw, scans)
    assert list((raw / "imagesTr").iterdir()) == []


def test_what_is_wrong_with_a_case_is_one_sentence_and_the_others_are_written(raw, scans, tmp_path):
    other = affine(DIRECTIONS["permuted"])
    cases = {
        **CASES,
        "lacks": {0: ("1.1", "1.1.0")},
        "gone": {0: ("1.1", "1.1.0"), 1: ("1.1", "9")},
        "size": {0: ("1.1", "1.1.0"), 1: ("2", "2.1")},
        "turned": {0: ("1.1", "1.1.0"), 1: ("3", "3.1")},
        "hole": {0: ("1.1", "1.1.0"), 1: ("4", "4.1")},
        "short": {0: ("1.1", "1.1.0"), 1: ("5", "5.1")},
        "mixed": {0: ("1.1", "1.1.0"), 1: ("6", "6.1")},
    }
    write_series(scans / "size", VOXELS[0][:-1], STEPS, StudyInstanceUID="2", SeriesInstanceUID="2.1")
    write_series(scans / "turned", VOXELS[0], other, StudyInstanceUID="3", SeriesInstanceUID="3.1")
    write_series(scans / "hole", VOXELS[0], STEPS, StudyInstanceUID="4", SeriesInstanceUID="4.1")[3].unlink()
    cut = write_series(scans / "short", VOXELS[0], STEPS, StudyInstanceUID="5", SeriesInstanceUID="5.1")[3]
    cut.write_bytes(cut.read_bytes()[:-20])
    write_series(scans / "mixed", VOXELS[0], STEPS, StudyInstanceUID="6", SeriesInstanceUID="6.1", PatientID="other")
    result = bring(raw, scans, cases)
    assert result.written == ["p001_1"]
    said = result.problems
    assert said["lacks"].startswith("Case lacks has no series for FLAIR; name one in the table")
    assert said["gone"].startswith("Case gone: the series for FLAIR is not in the folder")
    assert said["size"].startswith("Case size: the series for FLAIR has 10 x 12 x 8 voxels, that for T1 10 x 12 x 9;")
    assert said["turned"].startswith("Case turned: the series for FLAIR lies up to ") and "turned by" in said["turned"]
    assert said["hole"].startswith("Case hole: the series for FLAIR lacks 1 slice(s)")
    assert said["short"].startswith("Case short: the series for FLAIR has a file that cannot be read")
    assert said["mixed"].startswith("Case mixed: its series are of different patients")
    assert {file.name[:6] for file in (raw / "imagesTr").iterdir()} == {"p001_1"}


def test_inverted_values_are_noted(raw, scans):
    for file in (scans / "0").iterdir():
        change(file, PhotometricInterpretation="MONOCHROME1")
    (note,) = bring(raw, scans).notes["p001_1"]
    assert note.startswith("T1: the series is stored inverted (MONOCHROME1")
