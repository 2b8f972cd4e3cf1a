from __future__ import annotations

import pytest
from nnunetv2.utilities.dataset_name_id_conversion import find_candidate_datasets

from nnunet_active.nnunet import nnunet_paths
from nnunet_active.util.errors import MissingInput

NAME = "Dataset204_GliomaTarget"


@pytest.mark.parametrize("given", [204, "204", "0204", NAME])
@pytest.mark.parametrize("root", ["nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"])
def test_a_number_or_a_name_gives_the_full_name(nnunet_folders, given, root):
    (nnunet_folders / root / NAME).mkdir()
    assert nnunet_paths.dataset_name(given) == NAME


def test_small_numbers_are_padded_as_in_nnunet(nnunet_folders):
    (nnunet_folders / "nnUNet_raw" / "Dataset007_Liver").mkdir()
    assert nnunet_paths.dataset_name(7) == nnunet_paths.dataset_name("7") == "Dataset007_Liver"


@pytest.mark.parametrize("number", [7, 70, 204, 1234])
def test_the_data_sets_of_a_number_are_those_that_nnunet_finds(nnunet_folders, number):
    for root, name in (
        ("raw", "007_A"),
        ("raw", "204_A"),
        ("results", "204_A"),
        ("results", "204_B"),
        ("raw", "1234_C"),
    ):
        (nnunet_folders / f"nnUNet_{root}" / f"Dataset{name}").mkdir()
    (nnunet_folders / "nnUNet_raw" / "Dataset070_file").touch()
    found = nnunet_paths.datasets_with_number(number)
    assert found == [str(name) for name in find_candidate_datasets(number)]


def test_an_unknown_number_says_where_it_was_looked_for(nnunet_folders):
    with pytest.raises(MissingInput, match=r"No folder Dataset012_\* was found in nnUNet_raw") as missing:
        nnunet_paths.dataset_name(12)
    assert str(nnunet_folders / "nnUNet_raw") in str(missing.value)
    assert str(nnunet_folders / "nnUNet_preprocessed") in str(missing.value)


def test_a_name_that_no_folder_has_is_told_before_anything_else(nnunet_folders):
    with pytest.raises(MissingInput, match="No folder Dataset204_Gliom was found in nnUNet_raw"):
        nnunet_paths.dataset_name("Dataset204_Gliom")


def test_a_number_of_two_data_sets_asks_for_the_name(nnunet_folders):
    (nnunet_folders / "nnUNet_raw" / "Dataset204_A").mkdir()
    (nnunet_folders / "nnUNet_results" / "Dataset204_B").mkdir()
    with pytest.raises(MissingInput, match="used by Dataset204_A, Dataset204_B; give the full name"):
        nnunet_paths.dataset_name("204")


@pytest.mark.parametrize("text", ["Glioma", "", "2O4", "-3", "²", "1.5"])
def test_what_is_neither_a_number_nor_a_name_is_refused(nnunet_folders, text):
    with pytest.raises(MissingInput, match="neither a data set number nor a name"):
        nnunet_paths.dataset_name(text)


def test_the_raw_folder_must_hold_a_dataset_json(nnunet_folders):
    folder = nnunet_folders / "nnUNet_raw" / NAME
    with pytest.raises(MissingInput, match=r"dataset\.json was not found; put the target scans there") as missing:
        nnunet_paths.raw_folder(NAME)
    assert str(folder) in str(missing.value)
    folder.mkdir()
    (folder / "dataset.json").write_text("{}")
    assert nnunet_paths.raw_folder(NAME) == folder


def test_the_preprocessed_folder_need_not_exist(nnunet_folders):
    assert nnunet_paths.preprocessed_folder(NAME) == nnunet_folders / "nnUNet_preprocessed" / NAME


@pytest.mark.parametrize(
    ("variable", "read"),
    [
        ("nnUNet_raw", nnunet_paths.raw_root),
        ("nnUNet_preprocessed", nnunet_paths.preprocessed_root),
        ("nnUNet_results", nnunet_paths.results_root),
    ],
)
def test_each_variable_is_read_when_asked_for_and_missed_by_name(nnunet_folders, monkeypatch, variable, read):
    assert read() == nnunet_folders / variable
    monkeypatch.setenv(variable, str(nnunet_folders))
    assert read() == nnunet_folders
    for value in (None, ""):
        monkeypatch.delenv(variable) if value is None else monkeypatch.setenv(variable, value)
        with pytest.raises(MissingInput, match=f"environment variable {variable} is not set"):
            read()


def test_a_number_without_any_variable_is_missing_input_too(monkeypatch):
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(MissingInput, match="check the data set's number or name and the environment variables"):
        nnunet_paths.dataset_name(204)


@pytest.mark.parametrize("value", ["~/nnUNet_raw", '"/data/nnUNet_raw"', "'/data/nnUNet_raw'"])
def test_what_the_shell_has_not_taken_for_what_it_means_is_said(nnunet_folders, monkeypatch, value):
    monkeypatch.setenv("nnUNet_raw", value)
    with pytest.raises(MissingInput, match="write the whole path, without them"):
        nnunet_paths.dataset_name("777")
