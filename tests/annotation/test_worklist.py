from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from nnunet_active.annotation.records import HandoffCase
from nnunet_active.annotation.worklist import write_case_list, write_readme, write_worklist
from nnunet_active.data.raw_dataset import RawCase


def case(name: str, rank: int, **facts) -> HandoffCase:
    return HandoffCase(RawCase(name, (Path("x.nii.gz"),), None), "FLAIR", rank, facts)


def entry(name: str, **volumes: float) -> dict:
    return {"label_file": f"{name}/{name}.nii.gz", "slices": {"axial": [7, 3]}, "volumes_mm3": volumes}


def test_the_worklist_is_sorted_by_rank_and_has_the_facts(tmp_path):
    cases = [case("b", 2, utility=0.5, minutes=12), case("a", 1, utility=0.75), case("set aside", 3)]
    write_worklist(tmp_path, cases, {"a": entry("a", tumour=12345.0), "b": entry("b", tumour=0.0), "c": entry("c")})
    table = pd.read_csv(tmp_path / "worklist.csv")
    assert table["case"].tolist() == ["a", "b"] and table["rank"].tolist() == [1, 2]
    assert table["axial_slices"].tolist() == ["7 3", "7 3"]
    assert table["predicted_cm3_tumour"].tolist() == [12.345, 0]
    assert table["utility"].tolist() == [0.75, 0.5] and table["minutes"].isna().tolist() == [True, False]


def test_images_without_a_spacing_have_pixels_and_no_volumes(tmp_path):
    flat = {**entry("a", left_lung=1234.0), "label_file": "a/a.png"}
    columns = write_worklist(tmp_path, [case("a", 1, foreground_mm3=1234.0, minutes=3)], {"a": flat})
    table = pd.read_csv(tmp_path / "worklist.csv")
    assert table["predicted_pixels_left_lung"].tolist() == [1234] and not any(
        "mm3" in name or "cm3" in name for name in columns
    )
    write_readme(tmp_path, {**CONTENT, "file_ending": ".png"}, ["photo"], ".png", columns)
    assert "  predicted_pixels_left_lung: number of pixels" in (tmp_path / "README.txt").read_text()


def test_where_slices_are_asked_for_the_worklist_names_no_others(tmp_path):
    asked = {**entry("a"), "asked": {"axis": "z", "slices": [2, 8], "position_mm": [0, 0, 0]}}
    columns = write_worklist(tmp_path, [case("a", 1)], {"a": asked})
    table = pd.read_csv(tmp_path / "worklist.csv")
    assert table.columns.tolist() == columns == ["rank", "case", "open_first", "label_file", "axis", "slices"]
    assert table["slices"].tolist() == ["2 8"]


CONTENT = {"file_ending": ".nrrd", "round": 1, "dataset": "Dataset204_G", "fold": "0", "labels": [], "cases": {"a": {}}}


@pytest.mark.parametrize(
    ("cases", "drawn", "told"),
    [
        ("a", True, "1 case: see"),
        ("ab", True, "2 cases, in the order in which they were drawn: see"),
        ("ab", False, "2 cases, the most useful first: see"),
    ],
)
def test_the_readme_calls_no_case_useful_that_was_drawn(tmp_path, cases, drawn, told):
    write_readme(tmp_path, {**CONTENT, "cases": {name: {} for name in cases}}, ["T1"], ".nrrd", drawn=drawn)
    assert (tmp_path / "README.txt").read_text().splitlines()[2].startswith(told)


def test_the_readme_explains_every_column_of_the_worklist(tmp_path):
    facts = ("round", "strategy", "utility", "probability", "foreground_mm3", "mean_entropy", "minutes", "objects")
    noted = {**entry("a", core=1.0, slices=2.0), "channels_apart": "a_0001 lies 3 mm away"}
    in_slices = {**entry("b"), "asked": {"axis": "z", "slices": [1], "position_mm": [0, 0, 0]}}
    cases = [case("a", 1, **dict.fromkeys(facts, 1)), case("b", 2)]
    columns = write_worklist(tmp_path, cases, {"a": noted, "b": in_slices})
    write_readme(tmp_path, CONTENT, ["T1"], ".nrrd", columns)
    lines = (tmp_path / "README.txt").read_text().split("Columns of worklist.csv:")[1].strip().splitlines()
    explained = [name for line in lines for name in line.strip().split(": ")[0].split(", ")]
    assert sorted(explained) == sorted(columns) and {"axial_slices", "axis", "note", *facts} <= set(columns)
    assert "  predicted_cm3_core, predicted_cm3_slices: volume" in "\n".join(lines)
    assert not any("a fact that" in line for line in lines)


def test_a_case_whose_channels_lie_apart_is_marked(tmp_path):
    apart = {
        **entry("a"),
        "channels_apart": "a_0001.nii.gz lies up to 3 mm away (origins 3 mm apart) from a_0000.nii.gz",
    }
    write_worklist(tmp_path, [case("a", 1), case("b", 2)], {"a": apart, "b": {**entry("b"), "channels_apart": ""}})
    notes = pd.read_csv(tmp_path / "worklist.csv")["note"]
    assert "do not lie on one grid: a_0001.nii.gz lies up to 3 mm away" in notes[0] and pd.isna(notes[1])


def test_the_case_list_has_the_columns_of_both_modules_and_no_cell_is_a_formula(tmp_path):
    """SlicerCaseIterator's defaults are path, image and mask; CART looks for uid and for words in the columns' names."""

    def files(name: str) -> dict:
        images = [
            {"file": f"{name}/{name}_000{n}.nii.gz", "channel": one} for n, one in enumerate(("T1", "=FLAIR", "T2"))
        ]
        return {
            "images": images,
            "segmentation_file": f"{name}/{name}.seg.nrrd",
            "uncertainty_file": f"{name}/u.nii.gz",
        }

    cases = [case("b", 2), case("=a", 1), case("set aside", 3)]
    entries = {name: {**files(name), "open_first": first} for name, first in (("b", "T1"), ("=a", "T2"))}
    write_case_list(tmp_path, cases, entries)
    table = pd.read_csv(tmp_path / "cases.csv")
    assert not [
        cell for cell in [*table.columns, *table.to_numpy().ravel()] if str(cell).startswith(("=", "+", "-", "@"))
    ]
    first, second = table.to_dict("records")
    assert first["uid"] == "'=a" and second["uid"] == second["ID"] == "b"
    assert second["image"] == second["volume_reference"] == "./b/b_0000.nii.gz" and second["path"] == "."
    assert second["mask"] == second["label_segmentation_editable"] == "./b/b.seg.nrrd"
    assert second["T2_volume"] == "./b/b_0002.nii.gz" and second["'=FLAIR_volume"] == "./b/b_0001.nii.gz"
    assert first["image"] == "./=a/=a_0002.nii.gz" and first["T1_volume"] == "./=a/=a_0000.nii.gz"
    assert pd.isna(first["T2_volume"])


def test_an_empty_worklist_is_written_too(tmp_path):
    write_worklist(tmp_path, [], {})
    assert (tmp_path / "worklist.csv").is_file()


def test_the_readme_tells_what_the_files_are(tmp_path):
    content = {
        **{"file_ending": ".nrrd", "round": 2, "dataset": "Dataset204_Glioma", "fold": "3"},
        "labels": [{"value": 1, "name": "tumour"}],
        "cases": {"a": {}, "b": {}, "c": {}},
    }
    write_readme(tmp_path, content, ["T1", "FLAIR"], ".nrrd")
    text = (tmp_path / "README.txt").read_text()
    for part in (
        "Glioma, round 2",
        "CASE/CASE.nrrd",
        "T1, FLAIR",
        "1 tumour",
        "nnunet_active ingest -d Dataset204_Glioma -f 3 --from THIS_FOLDER",
        "3 cases, the most useful first: see",
        "CASE_uncertainty.nrrd",
    ):
        assert part in text
    assert "{" not in text and "CASE.itksnap" in text
    write_readme(tmp_path, {**content, "file_ending": ".png"}, ["colour"], ".nii.gz")
    assert "itksnap" not in (tmp_path / "README.txt").read_text()
