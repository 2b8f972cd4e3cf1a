from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_target import PLANS, make_target
from tiny_training import output_folder, start, trainer_of

from nnunet_active.training.validation_folder import FOLDER, KEPT, set_validation_aside


def test_predictions_of_cases_that_are_trained_on_by_now_are_moved_and_nothing_is_lost(tmp_path):
    assert set_validation_aside(tmp_path, ["a"], ".nii.gz") == []
    (tmp_path / FOLDER).mkdir()
    names = ["a.nii.gz", "b.nii.gz", "b.npz", "b.pkl", "c.1.nii.gz", "summary.json"]
    for name in names:
        (tmp_path / FOLDER / name).write_text(name)
    assert set_validation_aside(tmp_path, ["a"], ".nii.gz") == ["b", "c.1"]
    assert sorted(file.name for file in (tmp_path / FOLDER).iterdir()) == ["a.nii.gz", "summary.json"]
    assert sorted(file.name for file in (tmp_path / KEPT).iterdir()) == ["b.nii.gz", "b.npz", "b.pkl", "c.1.nii.gz"]
    (tmp_path / FOLDER / "b.nii.gz").write_text("again")
    assert set_validation_aside(tmp_path, ["a"], ".nii.gz") == ["b"]
    assert (tmp_path / KEPT / "b.nii.gz").read_text() == "again"


@pytest.mark.parametrize("preprocessed", [False, True])
def test_a_first_stage_is_validated_though_its_second_stage_is_planned_and_not_preprocessed(
    nnunet_folders, preprocessed
):
    target = make_target(nnunet_folders)
    file = target.preprocessed / f"{PLANS}.json"
    plans = json.loads(file.read_text())
    first, second = plans["configurations"][target.configuration], "3d_cascade_fullres"
    # of one that is preprocessed, nnU-Net itself predicts what the second stage reads
    identifier = first["data_identifier"] if preprocessed else f"{PLANS}_{second}"
    plans["configurations"][second] = {**first, "previous_stage": target.configuration, "data_identifier": identifier}
    plans["configurations"][target.configuration] = {**first, "next_stage": second}
    file.write_text(json.dumps(plans))
    start(target, strategy="random", fine_tuning={"compare": False})
    trainer = trainer_of(target)
    trainer.run_training()
    trainer.perform_actual_validation()
    assert (output_folder(target) / FOLDER / "summary.json").is_file()
    predicted = Path(trainer.output_folder_base) / "predicted_next_stage" / second
    assert any(predicted.glob("*")) == preprocessed and trainer.configuration_manager.next_stage_names == [second]
