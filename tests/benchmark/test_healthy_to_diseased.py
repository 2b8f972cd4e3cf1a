"""The script that makes a pair of real scans, on files that stand in for them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
from healthy_to_diseased import SCANS, make_pair

PARTS = {
    "source": ["patient061_frame01"],
    "pool": ["patient001_frame12", "patient001_frame01"],
    "test": ["patient013_frame01"],
}


@pytest.fixture
def data(tmp_path):
    """As much of the test data as it takes."""
    folder = tmp_path / "data"
    for part, ending in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
        (folder / "nnUNet_raw" / SCANS / part).mkdir(parents=True)
        for case in (case for cases in PARTS.values() for case in cases):
            (folder / "nnUNet_raw" / SCANS / part / f"{case}{ending}").write_text(part + case)
    (folder / "nnUNet_raw" / SCANS / "dataset.json").write_text(json.dumps({"labels": {"LV": 3}, "numTraining": 200}))
    (folder / "splits").mkdir()
    (folder / "splits" / "healthy_to_diseased.json").write_text(json.dumps(PARTS))
    return folder


def test_the_target_holds_the_diseased_scans_and_the_split_keeps_patients_apart(data, tmp_path):
    space = make_pair(tmp_path / "made", data)
    images, labels = (sorted(file.name for file in (space.raw / part).iterdir()) for part in ("imagesTr", "labelsTr"))
    assert labels == ["patient001_frame01.nii.gz", "patient001_frame12.nii.gz", "patient013_frame01.nii.gz"]
    assert images == [name.replace(".nii.gz", "_0000.nii.gz") for name in labels]
    assert (space.raw / "labelsTr" / labels[0]).read_text() == "labelsTrpatient001_frame01"
    assert json.loads((space.raw / "dataset.json").read_text()) == {"labels": {"LV": 3}, "numTraining": 3}
    (fold,) = json.loads((tmp_path / "made" / "splits_final.json").read_text())
    assert fold == {"train": sorted(PARTS["pool"]), "val": PARTS["test"]}


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("there already", "is there already"),
        ("missing", "1 files .* are missing"),
        ("patient", "patient001 are in pool"),
    ],
)
def test_what_cannot_be_made_is_one_sentence_and_nothing_is_written(data, tmp_path, what, said):
    made = tmp_path / "made"
    if what == "there already":
        make_pair(made, data)
    if what == "missing":
        (data / "nnUNet_raw" / SCANS / "labelsTr" / "patient013_frame01.nii.gz").unlink()
    if what == "patient":
        split = {**PARTS, "test": ["patient001_frame30"]}
        (data / "splits" / "healthy_to_diseased.json").write_text(json.dumps(split))
    before = sorted(made.rglob("*"))
    with pytest.raises(SystemExit, match=said):
        make_pair(made, data)
    assert sorted(made.rglob("*")) == before


@pytest.mark.data
def test_the_real_pair_has_96_scans_to_choose_from_and_64_to_test_on(test_data, tmp_path):
    if not (test_data / "splits" / "healthy_to_diseased.json").is_file():
        pytest.skip("the test data has no healthy_to_diseased.json")
    space = make_pair(tmp_path, test_data)
    assert len(list((space.raw / "imagesTr").iterdir())) == len(list((space.raw / "labelsTr").iterdir())) == 160
    (fold,) = json.loads((tmp_path / "splits_final.json").read_text())
    assert (len(fold["train"]), len(fold["val"])) == (96, 64)
