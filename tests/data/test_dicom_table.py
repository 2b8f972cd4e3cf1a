from __future__ import annotations

import re

import numpy as np
import pytest
from tiny_dicom import write_series
from tiny_spaces import DIRECTIONS, SHAPE, affine

from nnunet_active.data.dicom_series import find_series
from nnunet_active.data.dicom_table import SeriesTable, check_apart, propose_channels
from nnunet_active.util.errors import ActiveError, MissingInput

STEPS = affine(DIRECTIONS["oblique"])
VOXELS = np.zeros(SHAPE, dtype=np.uint16)
CHANNELS = ["T1", "FLAIR"]


def write(folder, study: str, patient: str, *descriptions: str) -> None:
    for number, words in enumerate(descriptions, 1):
        said = {"StudyInstanceUID": study, "PatientID": patient, "SeriesNumber": number, "SeriesDescription": words}
        write_series(folder / study / str(number), VOXELS, STEPS, **said)


def filled(folder) -> SeriesTable:
    table = SeriesTable.empty(CHANNELS)
    table.add(find_series(folder).series, {})
    return table


def columns(table: SeriesTable, *names: str) -> list[tuple]:
    return list(table.rows[list(names)].itertuples(index=False, name=None))


def test_studies_get_pseudonyms_and_the_words_of_a_description_propose_its_channel(tmp_path):
    write(tmp_path, "1.1", "bob", "t1_mprage_sag", "tra FLAIR")
    write(tmp_path, "1.2", "bob", "T1", "DWI")
    write(tmp_path, "1.3", "carol", "T1 pre", "T1 post", "FLAIR")
    assert columns(filled(tmp_path), "case", "channel") == [
        *(("p001_1", "T1"), ("p001_1", "FLAIR"), ("p001_2", "T1"), ("p001_2", "")),
        *(("p002_1", ""), ("p002_1", ""), ("p002_1", "FLAIR")),
    ]


def test_a_pattern_takes_the_place_of_the_name(tmp_path):
    write(tmp_path, "1.3", "carol", "T1 pre", "T1 post", "FLAIR")
    series = find_series(tmp_path).series
    proposed = propose_channels(series, CHANNELS, {"T1": re.compile("POST", re.I), "FLAIR": re.compile("never")})
    assert proposed == {series[1].uid: "T1"}


def test_one_volume_is_the_only_channel_also_without_any_words_and_a_series_that_is_none_is_passed_over(tmp_path):
    write(tmp_path, "1.1", "bob", "whatever", "scout")
    for file in sorted((tmp_path / "1.1" / "2").iterdir())[3:5]:
        file.unlink()
    series = find_series(tmp_path).series
    assert propose_channels(series, ["CT"], {}) == {series[0].uid: "CT"}


def test_a_modality_is_a_channels_name_too(tmp_path):
    write(tmp_path, "1.1", "bob", "whatever")
    write_series(tmp_path / "pet", VOXELS, STEPS, StudyInstanceUID="1.1", PatientID="bob", Modality="PT")
    table = SeriesTable.empty(["CT", "PT"])
    table.add(find_series(tmp_path).series, {})
    assert sorted(columns(table, "channel")) == [("CT",), ("PT",)]


def test_what_a_person_changed_is_read_back_and_a_later_scan_of_the_patient_is_the_next_study(tmp_path):
    write(tmp_path / "scans", "1.1", "bob", "a", "b")
    table = filled(tmp_path / "scans")
    table.rows["channel"] = ["flair", "T1"]
    file = tmp_path / "table.csv"
    table.write(file)
    assert file.stat().st_mode & 0o077 == 0
    assert "Secret" not in file.read_text()
    write(tmp_path / "scans", "1.0", "bob", "T1", "FLAIR")
    write(tmp_path / "scans", "1.9", "alice", "T1", "FLAIR")
    read = SeriesTable.read(file, CHANNELS)
    first = {"p001_1": {1: ("1.1", table.rows["series_uid"][0]), 0: ("1.1", table.rows["series_uid"][1])}}
    assert read.cases() == first
    assert read.add(find_series(tmp_path / "scans").series, {}) == 4
    assert list(read.cases()) == ["p001_1", "p002_1", "p001_2"]
    assert read.add(find_series(tmp_path / "scans").series, {}) == 0


def test_a_new_patient_gets_no_name_that_the_data_set_has_from_another_table(tmp_path):
    write(tmp_path, "1.1", "bob", "T1", "FLAIR")
    write(tmp_path, "1.2", "bob", "T1", "FLAIR")
    table = SeriesTable.empty(CHANNELS)
    table.add(find_series(tmp_path).series, {}, ["p001_1", "p003_2", "BRATS_4"])
    assert list(table.cases()) == ["p004_1", "p004_2"]


def test_semicolons_of_a_spreadsheet_program_are_read(tmp_path):
    write(tmp_path / "scans", "1.1", "bob", "T1", "FLAIR")
    table = filled(tmp_path / "scans")
    file = tmp_path / "table.csv"
    file.write_text(table.rows.to_csv(index=False, sep=";"), encoding="utf-8-sig")
    assert SeriesTable.read(file, CHANNELS).cases() == table.cases()


@pytest.mark.parametrize("earlier", ["there", "moved away"])
def test_a_patient_whose_number_lost_its_zeros_in_a_spreadsheet_program_keeps_the_name(tmp_path, earlier):
    write(tmp_path / "scans", "1.1", "00123", "T1", "FLAIR")
    write(tmp_path / "scans", "1.2", "00456", "T1", "FLAIR")
    table = filled(tmp_path / "scans")
    table.rows["patient_id"] = [str(int(text)) for text in table.rows["patient_id"]]
    write(tmp_path / ("scans" if earlier == "there" else "later"), "1.9", "00123", "T1", "FLAIR")
    table.add(find_series(tmp_path / ("scans" if earlier == "there" else "later")).series, {})
    assert columns(table, "case")[4:] == [("p001_2",), ("p001_2",)]


def test_two_patients_whose_numbers_differ_in_their_zeros_stay_apart(tmp_path):
    for study, patient in (("1.1", "123"), ("1.2", "0123")):
        write(tmp_path, study, patient, "T1", "FLAIR")
    assert sorted(filled(tmp_path).cases()) == ["p001_1", "p002_1"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"channel": ["T1", "T1"]}, "Rows 2 and 3 of the table both give the channel T1 of case p001_1"),
        ({"channel": ["T1", "T2"]}, "Row 3 of the table names the channel 'T2'; the data set has T1, FLAIR"),
        ({"case": ["../up", "a"]}, r"Row 2 of the table: The case identifier '\.\./up' is refused"),
    ],
)
def test_what_cannot_be_imported_is_refused_with_its_row(tmp_path, change, said):
    write(tmp_path / "scans", "1.1", "bob", "T1", "FLAIR")
    table = filled(tmp_path / "scans")
    for name, values in change.items():
        table.rows[name] = values
    table.write(tmp_path / "table.csv")
    with pytest.raises(MissingInput, match=said):
        SeriesTable.read(tmp_path / "table.csv", CHANNELS)


def test_another_table_is_refused(tmp_path):
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    with pytest.raises(MissingInput, match="lacks the column case, channel, study_uid, series_uid"):
        SeriesTable.read(tmp_path / "table.csv", CHANNELS)


def test_the_table_does_not_lie_with_the_data(tmp_path):
    raw = tmp_path / "nnUNet_raw"
    raw.mkdir()
    (tmp_path / "link").symlink_to(raw)
    check_apart("-o", tmp_path / "table.csv", [raw])
    for file in (raw / "Dataset001_A" / "table.csv", tmp_path / "link" / "table.csv"):
        with pytest.raises(ActiveError, match="it tells whose scans these are"):
            check_apart("-o", file, [raw])
