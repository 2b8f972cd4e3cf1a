from __future__ import annotations

import pytest
from tiny_campaign import begin
from tiny_source import source_model, write_trained

from nnunet_active.campaign.settings import Settings
from nnunet_active.cli.main import main

DATASET = "Dataset901_Target"
TRAINED = "nnUNetTrainerSomebodys__nnUNetActivePlans__3d_fullres"
EXPORTED = "nnUNetTrainer__nnUNetActivePlans__3d_fullres"


@pytest.fixture
def trained(nnunet_folders):
    folder = nnunet_folders / "nnUNet_results" / DATASET / TRAINED
    write_trained(source_model(), folder, trainer_name="nnUNetTrainerSomebodys")
    return ["export", "-d", DATASET, "-c", "3d_fullres", "-tr", "nnUNetTrainerSomebodys", "-o"]


def test_a_folder_comes_with_the_command_that_predicts_with_it(trained, tmp_path, capsys):
    assert main([*trained, str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert f"nnUNetv2_predict_from_modelfolder -i IMAGES -o PREDICTIONS -m {EXPORTED} -f 0" in said
    assert (tmp_path / "out" / EXPORTED / "fold_0" / "checkpoint_final.pth").is_file()


def test_a_zip_comes_with_the_command_that_installs_it(trained, tmp_path, capsys):
    assert main([*trained, str(tmp_path / "m.zip")]) == 0
    assert "nnUNetv2_install_pretrained_model_from_zip m.zip" in capsys.readouterr().out


@pytest.mark.parametrize(
    "more", [["-tr", "nnUNetTrainerX"], ["-chk", "checkpoint_best.pth"], ["-f", "0", "1"], ["--trust-checkpoint"]]
)
def test_what_the_source_does_not_have_cannot_be_exported_of_it(nnunet_folders, tmp_path, capsys, more):
    (nnunet_folders / "nnUNet_raw" / DATASET).mkdir()
    call = ["export", "-d", DATASET, "-c", "3d_fullres", "--source", "-o", str(tmp_path / "out"), *more]
    assert main(call) == 2
    assert "--source exports the source network as it is kept, one fold" in capsys.readouterr().err


def test_a_fold_that_is_not_there_is_one_sentence_and_nothing_is_written(trained, tmp_path, capsys):
    assert main([*trained, str(tmp_path / "out"), "-f", "0", "3"]) == 2
    assert "no checkpoint for fold 3" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "trainer"),
    [({"strategy": "mmacts"}, "nnUNetTrainerMmActS"), ({"epochs": 3, "stride": 1}, "nnUNetTrainerActiveAdamW")],
)
def test_the_trainer_that_the_campaign_names_need_not_be_named_again(nnunet_folders, tmp_path, settings, trainer):
    begin(nnunet_folders / "nnUNet_preprocessed" / DATASET, settings=Settings(**settings))
    folder = nnunet_folders / "nnUNet_results" / DATASET / f"{trainer}__nnUNetActivePlans__3d_fullres"
    write_trained(source_model(), folder, trainer_name="nnUNetTrainer")
    assert main(["export", "-d", DATASET, "-c", "3d_fullres", "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / EXPORTED / "fold_0" / "checkpoint_final.pth").is_file()


def test_a_model_that_was_never_trained_is_named_as_such(trained, tmp_path, capsys):
    assert main(["export", "-d", DATASET, "-c", "3d_fullres", "-o", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "nnUNetTrainerActive has trained no such model (nnUNetTrainerSomebodys did)" in said
    assert "-tr" in said and "source model" not in said
