from __future__ import annotations

import json
import os

import pytest
from tiny_target import make_target

from nnunet_active.cli import main
from nnunet_active.demo import demo_run as runner
from nnunet_active.util.errors import MissingInput

VARIABLES = (
    "nnUNet_raw",
    "nnUNet_preprocessed",
    "nnUNet_results",
    "nnUNet_extTrainer",
    "nnUNet_n_proc_DA",
    "nnUNet_compile",
)


@pytest.fixture(autouse=True)
def _environment_as_before(monkeypatch):
    for variable in VARIABLES:
        monkeypatch.setenv(variable, os.environ.get(variable, ""))


def test_the_demo_on_ones_own_data_compares_five_ways_and_keeps_everything_in_its_folder(nnunet_folders, capsys):
    target = make_target(nnunet_folders, labelled=9)
    before = sorted(path for path in target.preprocessed.rglob("*"))
    work = nnunet_folders / "demo"
    command = ["demo", "--raw", str(target.raw), "--source", str(target.model), "--folder", str(work), "--threads", "1"]
    assert main.main([*command, "--epochs", "3", "--iterations", "1"]) == 0
    rows = json.loads((work / "demo.json").read_text())
    assert [row["name"] for row in rows] == ["source model", "random", "mmActS", "slices", "all labels"]
    assert [len(row["labelled"]) for row in rows if row["name"] != "slices"] == [0, 3, 3, 6]
    assert len(rows[3]["labelled"]) > 3 and rows[3]["slices"] == round(rows[4]["slices"] / 6 * 3)
    test = {file.name.removesuffix(".nii.gz") for file in (work / "test_labels").iterdir()}
    assert len(test) == 3
    assert not any(test & set(row["labelled"]) for row in rows)
    assert all(0 <= row["mean_dice"] <= 1 for row in rows)
    assert set(rows[2]["open_first"].values()) <= {"T1", "FLAIR", "T1ce"}
    shown = capsys.readouterr().out
    assert "mean IoU" in shown
    assert "no evidence" in shown
    assert sorted(path for path in target.preprocessed.rglob("*")) == before


def test_too_few_labels_are_said_before_anything_is_trained(nnunet_folders):
    target = make_target(nnunet_folders, labelled=3)
    with pytest.raises(MissingInput, match="at least six"):
        runner.hold_out(target.raw, nnunet_folders / "work", 1 / 3, 0)


def test_a_second_attempt_in_a_folder_tests_on_its_own_cases_alone(nnunet_folders):
    target = make_target(nnunet_folders, labelled=9)
    work = nnunet_folders / "work"
    tests = [runner.hold_out(target.raw, work, 1 / 3, seed) for seed in (0, 1, 1)]
    assert tests[0][0] != tests[1][0] == tests[2][0]
    for folder, channels in zip(tests[2][1:], (3, 1), strict=True):
        names = {file.name.split(".")[0] for file in folder.iterdir()}
        expected = {
            case if channels == 1 else f"{case}_{index:04d}" for case in tests[2][0] for index in range(channels)
        }
        assert names == expected and all(file.is_file() for file in folder.iterdir())


def test_raw_without_source_is_refused_in_one_sentence(nnunet_folders, capsys):
    assert main.main(["demo", "--raw", str(nnunet_folders)]) == 2
    assert "--source" in capsys.readouterr().err
