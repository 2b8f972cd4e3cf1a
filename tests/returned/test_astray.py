from __future__ import annotations

import hashlib
import json
import shutil

import pytest

from nnunet_active.returned.astray import advice_on_astray, astray_labels


@pytest.fixture
def folder(tmp_path):
    """A hand-off folder of the cases ``a`` and ``a_b``."""
    cases = {}
    for case in "a", "a_b":
        (tmp_path / case).mkdir()
        label = tmp_path / case / f"{case}.nii.gz"
        label.write_bytes(case.encode())
        cases[case] = {
            "label_file": f"{case}/{label.name}",
            "digest": "",
            "label_sha256": hashlib.sha256(label.read_bytes()).hexdigest(),
            "images": [{"file": f"{case}/{case}_0000.nii.gz", "channel": "T1"}],
        }
    (tmp_path / "handoff.json").write_text(json.dumps({"format": 1, "cases": cases}))
    return tmp_path


def write(file):
    file.parent.mkdir(exist_ok=True, parents=True)
    file.write_bytes(b"drawn")
    return file


def test_a_file_in_the_folder_of_a_case_is_astray_unless_it_was_handed_out(folder):
    drawn, handed = write(folder / "a" / "mine" / "truth.nii.gz"), write(folder / "a" / "a_0000.nii.gz")
    assert astray_labels([drawn, handed, folder / "a_b" / "a_b.nii.gz"]) == {"a": [drawn]}


def test_a_copy_of_the_prediction_that_nobody_changed_is_not_astray(folder):
    copy = folder / "a" / "a_original.nii.gz"
    shutil.copy(folder / "a" / "a.nii.gz", copy)
    assert not astray_labels([copy])
    assert astray_labels([write(copy)]) == {"a": [copy]}


def test_beside_the_folders_of_the_cases_the_name_in_front_tells_the_case(folder):
    names = ("a_corrected.nii.gz", "a_b-2.nii.gz", "a1.nii.gz", "other.nii.gz")
    files = [write(folder / name) for name in names]
    assert astray_labels(files) == {"a": files[:1], "a_b": files[1:2]}


def test_outside_hand_off_folders_and_beside_a_damaged_record_nothing_is_astray(folder, tmp_path_factory):
    elsewhere = write(tmp_path_factory.mktemp("elsewhere") / "a" / "a_corrected.nii.gz")
    inside = write(folder / "a" / "a_corrected.nii.gz")
    assert astray_labels([elsewhere, inside]) == {"a": [inside]}
    (folder / "handoff.json").write_text("{")
    assert not astray_labels([elsewhere, inside])


def test_the_right_name_keeps_the_format_of_the_file(folder):
    file = folder / "a" / "truth.seg.nrrd"
    assert f"save it as {folder / 'a' / 'a.seg.nrrd'}," in advice_on_astray("a", [file], ".nii.gz")
    both = advice_on_astray("a", [folder / "a" / "x.nii.gz", file], ".nii.gz")
    assert str(file) in both and f"save the label of the case as {folder / 'a' / 'a.nii.gz'}," in both
