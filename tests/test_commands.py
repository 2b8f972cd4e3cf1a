from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import torch

from nnunet_active.cli.main import build_parser
from nnunet_active.commands import Commands, trainer_for, use_exported

NAME = "Dataset204_GliomaTarget"


@pytest.fixture(autouse=True)
def dataset(nnunet_folders):
    (nnunet_folders / "nnUNet_raw" / NAME).mkdir()
    return nnunet_folders


@pytest.fixture(autouse=True)
def a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def test_only_flags_that_differ_from_their_defaults_are_spelled_out():
    plain = Commands(NAME, "3d_fullres", device="cuda")
    assert plain.select(3) == "nnunet_active select -d 204 -c 3d_fullres -n 3"
    assert plain.annotate() == "nnunet_active annotate -d 204"
    assert plain.ingest("--decline", "a b") == "nnunet_active ingest -d 204 --decline 'a b'"
    other = Commands(NAME, "2d", "nnUNetPlans", "all", "cpu")
    assert other.select() == "nnunet_active select -d 204 -c 2d -p nnUNetPlans -f all -device cpu"
    assert other.annotate() == "nnunet_active annotate -d 204 -f all -device cpu"
    assert other.train("T") == "nnUNetv2_train 204 2d all -tr T -p nnUNetPlans -device cpu"
    assert plain.train("T", go_on=True) == "nnUNetv2_train 204 3d_fullres 0 -tr T -p nnUNetActivePlans --c"


def test_every_command_of_ours_is_understood_by_our_own_parser():
    commands = Commands(NAME, "2d", "nnUNetPlans", "1", "cpu")
    lines = [
        commands.plan(),
        commands.preprocess(),
        commands.init(),
        commands.select(2, "-m", "MODEL"),
        commands.annotate(),
        commands.next(),
    ]
    for line in [*lines, commands.ingest("--accept-unchanged", "CASE")]:
        program, *arguments = shlex.split(line)
        assert program == "nnunet_active" and build_parser().parse_args(arguments).dataset == "204"


def test_every_command_of_nnunets_is_understood_by_its_own_parser(monkeypatch):
    import sys

    from nnunetv2.inference import predict_from_raw_data

    line = Commands(NAME, "2d", "nnUNetPlans", "0", "cpu").predict("nnUNetTrainer", ["0", "1"])
    monkeypatch.setattr(sys, "argv", shlex.split(line))
    threads = torch.get_num_threads()
    try:
        with pytest.raises((FileNotFoundError, RuntimeError, OSError)):  # the flags are good, the model is not there
            predict_from_raw_data.predict_entry_point()
    finally:
        torch.set_num_threads(threads)  # nnU-Net takes all there are, also for the tests after this one


def test_what_was_exported_is_used_by_nnunets_own_commands_as_a_zip_or_as_a_folder():
    commands = Commands(NAME, "2d", "nnUNetPlans")
    (folder,) = use_exported(Path("x") / "model", "nnUNetTrainer", commands, ["0", "1"])
    assert folder == "nnUNetv2_predict_from_modelfolder -i IMAGES -o PREDICTIONS -m model -f 0 1"
    install, predict = use_exported(Path("model.zip"), "nnUNetTrainerNoMirroring", commands, ["all"])
    assert install == "nnUNetv2_install_pretrained_model_from_zip model.zip"
    assert (
        predict
        == f"nnUNetv2_predict -i IMAGES -o PREDICTIONS -d {NAME} -c 2d -tr nnUNetTrainerNoMirroring -p nnUNetPlans -f all"
    )


def test_a_number_that_two_data_sets_share_is_not_used(dataset):
    (dataset / "nnUNet_preprocessed" / "Dataset204_Other").mkdir()
    assert Commands(NAME, "2d", device="cuda").annotate() == f"nnunet_active annotate -d {NAME}"


def test_without_a_gpu_nnunets_commands_name_the_device_and_ours_find_it(monkeypatch):
    assert Commands(NAME, "2d").train("T") == "nnUNetv2_train 204 2d 0 -tr T -p nnUNetActivePlans"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert Commands(NAME, "2d").train("T") == "nnUNetv2_train 204 2d 0 -tr T -p nnUNetActivePlans -device cpu"
    for named in (None, "cpu"):
        assert Commands(NAME, "2d", device=named).annotate() == "nnunet_active annotate -d 204"


def test_a_four_digit_number_stays_whole(dataset):
    (dataset / "nnUNet_raw" / "Dataset1234_X").mkdir()
    assert Commands("Dataset1234_X", "2d", fold="3").ingest() == "nnunet_active ingest -d 1234 -f 3"


def test_a_strategy_with_a_trainer_of_its_own_gets_it():
    assert trainer_for("mmacts") == "nnUNetTrainerMmActS" and trainer_for("coreset") == "nnUNetTrainerActive"


@pytest.mark.parametrize("strategy", ["mmacts", "coreset"])
def test_for_a_short_schedule_the_trainer_with_adamw_is_proposed(strategy):
    assert trainer_for(strategy, 3, 333) == trainer_for(strategy, 3) == "nnUNetTrainerActiveAdamW"
    assert trainer_for(strategy, 4, 250) == trainer_for(strategy, None, 2) == trainer_for(strategy)
    assert trainer_for("assft", 3, 10) == "nnUNetTrainerASSFT"  # rounds from the source and pseudo-labels are its own
