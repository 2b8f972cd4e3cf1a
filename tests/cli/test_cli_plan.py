from __future__ import annotations

import json

import pytest
import tiny_dataset
import tiny_source

from nnunet_active.cli.main import main


@pytest.fixture
def model(nnunet_folders):
    tiny_dataset.make_raw(nnunet_folders / "nnUNet_raw")
    return tiny_source.write_trained(tiny_source.source_model(), nnunet_folders / "model")


def test_the_plans_are_written_and_what_was_matched_and_the_next_command_are_said(model, nnunet_folders, capsys):
    assert main(["plan", "-d", "901", "-m", str(model)]) == 0
    said = capsys.readouterr().out
    file = nnunet_folders / "nnUNet_preprocessed" / tiny_dataset.NAME / "nnUNetActivePlans.json"
    assert f"Plans written to {file}." in said
    assert "Channels matched by name: T1, FLAIR." in said and "dropped: T1ce" in said
    assert "nnunet_active preprocess -d" in said and "-c 3d_fullres" in said
    assert json.loads(file.read_text())["configurations"]["3d_fullres"]["spacing"] == [1.5] * 3


def test_json_is_one_object_with_the_next_commands_and_other_plans_are_named_in_them(model, capsys):
    assert main(["plan", "-d", "901", "-m", str(model), "-plans_name", "Other", "--json"]) == 0
    (command,) = json.loads(capsys.readouterr().out)["next"]
    assert command.endswith("-c 3d_fullres -p Other")


def test_a_model_that_is_not_there_is_one_sentence_and_nothing_is_written(model, nnunet_folders, capsys):
    before = sorted(nnunet_folders.rglob("*"))
    assert main(["plan", "-d", "901", "-m", str(nnunet_folders / "nowhere")]) == 2
    assert "was not found" in capsys.readouterr().err
    assert sorted(nnunet_folders.rglob("*")) == before
