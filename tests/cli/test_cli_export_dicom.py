from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from tiny_dicom import write_series
from tiny_spaces import DIRECTIONS, SHAPE, affine

from nnunet_active.cli.main import main
from nnunet_active.data.dicom_series import find_series
from nnunet_active.data.dicom_table import SeriesTable
from nnunet_active.data.label_reader import read_label

pytest.importorskip("highdicom")

STEPS = affine(DIRECTIONS["oblique"])
DATASET = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "core": 1}, "file_ending": ".nii.gz"}
VOXELS = np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.uint16)


@pytest.fixture
def raw(nnunet_folders, tmp_path):
    """A data set that was imported from two patients' scans, and a folder of predictions of it."""
    folder = nnunet_folders / "nnUNet_raw" / "Dataset905_Dicom"
    folder.mkdir()
    (folder / "dataset.json").write_text(json.dumps(DATASET))
    for patient in "ab":
        write_series(tmp_path / "scans" / patient, VOXELS, STEPS, PatientID=patient)
    for _ in range(2):
        assert main(["import-dicom", str(tmp_path / "scans"), "-d", "905", "--table", str(tmp_path / "t.csv")]) == 0
    for case in ("p001_1", "p002_1"):
        image = sitk.ReadImage(str(folder / "imagesTr" / f"{case}_0000.nii.gz"))
        (tmp_path / "predicted").mkdir(exist_ok=True)
        sitk.WriteImage(sitk.Cast(image > 400, sitk.sitkUInt8), str(tmp_path / "predicted" / f"{case}.nii.gz"))
    return folder


def call(tmp_path, output="out") -> int:
    words = ["--scans", tmp_path / "scans", "--table", tmp_path / "t.csv", "-o", tmp_path / output]
    return main(["export-dicom", str(tmp_path / "predicted"), "-d", "905", *map(str, words)])


def test_predictions_become_segmentations_that_ingest_would_read_voxel_for_voxel(raw, tmp_path, capsys):
    assert call(tmp_path) == 0
    assert "2 written, 0 set aside. The files have the headers of their patients." in capsys.readouterr().out
    for case in ("p001_1", "p002_1"):
        image = raw / "imagesTr" / f"{case}_0000.nii.gz"
        label = read_label(case, tmp_path / "out" / f"{case}.dcm", image, DATASET, SimpleITKIO, ".nii.gz")
        np.testing.assert_array_equal(label.voxels, VOXELS > 400)


def test_what_cannot_go_back_is_named_and_the_others_go(raw, tmp_path, capsys):
    for file in (tmp_path / "scans" / "b").iterdir():
        file.unlink()
    assert call(tmp_path) == 1
    shown = capsys.readouterr().out
    assert "Not written: Case p002_1: the series for CT is not among the scans" in shown and "1 written, 1 set" in shown


def test_nothing_goes_to_another_patient_whose_table_has_the_same_name_for_a_case(raw, tmp_path, capsys):
    write_series(tmp_path / "elsewhere", VOXELS[::-1], STEPS, PatientID="other")
    series = find_series(tmp_path / "elsewhere").series
    table = SeriesTable.empty(["CT"])
    table.add(series, {})
    table.write(tmp_path / "t.csv")
    (tmp_path / "scans").rename(tmp_path / "scans_before")
    (tmp_path / "elsewhere").rename(tmp_path / "scans")
    assert call(tmp_path) == 1
    shown = capsys.readouterr().out
    assert "is not the image that the series for CT holds; name the table and the scans by which" in shown
    assert "1 more label map(s) are named after no case of" in shown and "p002_1.nii.gz first" in shown
    assert not list((tmp_path / "out").glob("*"))


def test_patients_headers_are_not_written_into_a_data_set(raw, tmp_path, capsys):
    assert call(tmp_path, "nnUNet_raw/Dataset905_Dicom/seg") == 2
    assert "it tells whose scans these are" in capsys.readouterr().err


def test_a_folder_without_predictions_is_told(raw, tmp_path, capsys):
    for file in (tmp_path / "predicted").iterdir():
        file.unlink()
    assert call(tmp_path) == 2
    assert "holds no label map that is named after a case of" in capsys.readouterr().err


def test_a_label_that_dicom_cannot_name_is_told_once_and_nothing_is_written(raw, tmp_path, capsys):
    (raw / "dataset.json").write_text(json.dumps({**DATASET, "labels": {"background": 0, "a\\b": 1}}))
    assert call(tmp_path) == 2
    assert capsys.readouterr().err.count("cannot be named in DICOM") == 1 and not (tmp_path / "out").exists()


def test_a_second_export_replaces_what_nobody_touched_and_keeps_what_somebody_corrected(raw, tmp_path, capsys):
    assert call(tmp_path) == 0
    untouched, corrected = (tmp_path / "out" / f"p00{n}_1.dcm" for n in (1, 2))
    before = untouched.read_bytes()
    corrected.write_bytes(corrected.read_bytes()[:-1] + b"\1")
    content = corrected.read_bytes()
    assert call(tmp_path) == 1
    assert "Not written: " in capsys.readouterr().out
    assert untouched.read_bytes() != before and corrected.read_bytes() == content
