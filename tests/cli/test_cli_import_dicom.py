from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from tiny_dicom import write_series
from tiny_spaces import DIRECTIONS, SHAPE, affine

from nnunet_active.cli.main import main
from nnunet_active.data.dicom_import import DicomCases

STEPS = affine(DIRECTIONS["oblique"])
DATASET = {"channel_names": {"0": "T1", "1": "FLAIR"}, "labels": {"background": 0, "core": 1}, "file_ending": ".nii.gz"}
VOXELS = [np.random.default_rng(n).integers(0, 900, SHAPE).astype(np.uint16) for n in range(2)]
SECRETS = ("Secret", "4711")


@pytest.fixture
def raw(nnunet_folders):
    folder = nnunet_folders / "nnUNet_raw" / "Dataset905_Dicom"
    folder.mkdir()
    (folder / "dataset.json").write_text(json.dumps(DATASET))
    return folder


@pytest.fixture
def scans(tmp_path):
    """A study with two series, a wrong one, and, of the same patient, a study that lacks a slice."""
    folder = tmp_path / "scans"
    for study in "12":
        for number, words in enumerate(("t1_mprage", "FLAIR tra", "localizer"), 1):
            said = {"SeriesDescription": words, "SeriesNumber": number, "StudyInstanceUID": f"1.{study}"}
            steps = STEPS if number < 3 else affine(DIRECTIONS["permuted"])
            files = write_series(folder / study / str(number), VOXELS[number % 2], steps, **said)
        if study == "2":
            next((folder / "2" / "1").glob("0004")).unlink()
    del files
    return folder


def call(*words) -> int:
    return main(["import-dicom", *map(str, words)])


def test_without_a_table_the_series_are_listed_under_pseudonyms_and_nothing_is_written(raw, scans, capsys):
    assert call(scans, "-d", 905) == 0
    shown = capsys.readouterr().out
    assert "p001_1\n  CT 't1_mprage', 9 images, 10 x 12 x 9 of 0.7812 x 1.1 x 3.3 mm: -> T1\n" in shown
    assert "'localizer', 9 images" in shown and "not taken" in shown
    assert "8 images, 10 x 12: not taken (lacks 1 slice(s): they lie 3.3 mm apart" in shown
    assert "Next: nnunet_active import-dicom FOLDER -d 905 --table FILE" in shown
    assert not any(secret in shown for secret in SECRETS) and [one.name for one in raw.iterdir()] == ["dataset.json"]


def test_the_table_is_written_checked_by_a_person_and_imported(raw, scans, tmp_path, capsys):
    table = tmp_path / "series.csv"
    assert call(scans, "-d", 905, "--table", table) == 0
    assert "Check its columns case and channel" in capsys.readouterr().out and not (raw / "imagesTr").exists()
    rows = pd.read_csv(table, dtype=str, keep_default_na=False)
    rows.loc[rows["case"] == "p001_2", "channel"] = ["T1", "FLAIR", ""]
    rows.to_csv(table, index=False)
    assert call(scans, "-d", 905, "--table", table) == 1
    shown = capsys.readouterr().out
    assert "Case p001_2: the series for T1 lacks 1 slice(s)" in shown
    assert "1 case(s) written, 0 were there, 1 set aside.\nNext: nnunet_active next -d 905\n" in shown
    assert not any(secret in shown for secret in SECRETS)
    for number in range(2):
        image = sitk.ReadImage(str(raw / "imagesTr" / f"p001_1_000{number}.nii.gz"))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), VOXELS[(number + 1) % 2])
    assert call(scans, "-d", 905, "--table", table) == 1
    assert "0 case(s) written, 1 were there, 1 set aside" in capsys.readouterr().out


def test_a_wrong_series_for_a_channel_is_told(raw, scans, tmp_path, capsys):
    table = tmp_path / "series.csv"
    assert call(scans / "1", "-d", 905, "--table", table, "--match", "FLAIR=local") == 0
    assert call(scans / "1", "-d", 905, "--table", table) == 1
    shown = capsys.readouterr().out
    assert "Case p001_1: the series for FLAIR lies up to" in shown and "here nothing is resampled" in shown
    assert list((raw / "imagesTr").iterdir()) == []


def test_series_that_came_later_are_added_to_the_table_first(raw, scans, tmp_path, capsys):
    table = tmp_path / "series.csv"
    call(scans / "1", "-d", 905, "--table", table)
    capsys.readouterr()
    assert call(scans, "-d", 905, "--table", table) == 0
    assert f"3 series are new in {table}; check them" in capsys.readouterr().out
    assert call(scans, "-d", 905, "--table", table) == 1
    assert "Case p001_2 has no series for T1" in capsys.readouterr().out


def test_another_table_gives_no_patient_the_name_of_a_case_that_is_there(raw, scans, tmp_path, capsys):
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    for _ in range(2):
        assert call(scans / "1", "-d", 905, "--table", first) == 0
    for number, words in enumerate(("T1", "FLAIR"), 1):
        said = {"SeriesDescription": words, "StudyInstanceUID": "1.9", "PatientID": "other"}
        write_series(tmp_path / "other" / str(number), VOXELS[0], STEPS, **said)
    capsys.readouterr()
    for _ in range(2):
        assert call(tmp_path / "other", "-d", 905, "--table", second) == 0
    shown = capsys.readouterr().out
    assert "Dataset905_Dicom has 1 case(s) already. If they come from these scans, name the table" in shown
    assert "1 case(s) written, 0 were there, 0 set aside" in shown
    assert {file.name[:6] for file in (raw / "imagesTr").iterdir()} == {"p001_1", "p002_1"}


def test_what_somebody_changes_in_the_table_during_an_import_stays(raw, scans, tmp_path, monkeypatch):
    table = tmp_path / "series.csv"
    call(scans / "1", "-d", 905, "--table", table)
    write = DicomCases.write

    def write_while_somebody_edits(self, cases, log):
        table.write_text(table.read_text().replace("localizer", "my words"))
        return write(self, cases, log)

    monkeypatch.setattr(DicomCases, "write", write_while_somebody_edits)
    assert call(scans, "-d", 905, "--table", table) == 0
    assert table.read_text().count("my words") == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--table", "{raw}/series.csv"], "it tells whose scans these are; keep it elsewhere"),
        (["--match", "T2=x"], "--match T2=x: write CHANNEL=REGEX; the channels are T1, FLAIR."),
        (["--match", "T1=("], "that is no regular expression"),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_is_written(raw, scans, capsys, words, said):
    assert call(scans, "-d", 905, *(word.format(raw=raw) for word in words)) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert [one.name for one in raw.iterdir()] == ["dataset.json"]


def test_a_data_set_that_names_no_channels_yet_is_told_what_it_needs(raw, scans, capsys):
    (raw / "dataset.json").unlink()
    assert call(scans, "-d", 905) == 2
    assert "it names the channels and the labels: copy that of the source model there" in capsys.readouterr().err


def test_pictures_cannot_say_where_a_scan_lies(raw, scans, capsys):
    (raw / "dataset.json").write_text(json.dumps({**DATASET, "file_ending": ".png"}))
    assert call(scans, "-d", 905) == 2
    assert "Files that end in .png cannot say where a scan lies" in capsys.readouterr().err
