"""Whose epochs, iterations and learning rate a training has."""

from __future__ import annotations

import pytest
from tiny_target import make_target
from tiny_training import campaign_of, checkpoint_of, output_folder, start, trainer_of

from nnunet_active.cli.main import main

SHORT = {"epochs": 2, "stride": 1, "iterations": 1, "val_iterations": 1}


@pytest.mark.parametrize(("name", "own"), [("nnUNetTrainerActiveAdamW", 1e-3), ("nnUNetTrainerActive", 1e-2)])
@pytest.mark.parametrize("way", ["init", "select", "no campaign"])
def test_a_learning_rate_that_nobody_set_is_the_trainers_own_in_every_way_of_use(
    nnunet_folders, capsys, name, own, way
):
    target = make_target(nnunet_folders, labelled=4)
    if way != "no campaign":
        more = {"init": "--budget 1", "select": "-n 1 -np 1 -device cpu --in-training"}[way]
        assert main([way, *f"-d 902 -c 3d_fullres --strategy random {more}".split()]) == 0
    trainer = trainer_of(target, name)
    assert trainer.initial_lr == own
    trainer.initialize()
    assert {group["lr"] for group in trainer.optimizer.param_groups} == {own}
    assert f"initial learning rate {own:g}, {name}'s own." in capsys.readouterr().out
    assert campaign_of(target).settings.initial_lr is None


def test_a_learning_rate_that_somebody_set_counts_and_the_log_says_so(nnunet_folders, capsys):
    target = make_target(nnunet_folders)
    start(target, epochs=1, stride=1, budget=1, initial_lr=0.25)
    trainer = trainer_of(target, "nnUNetTrainerActiveAdamW")
    trainer.run_training()
    assert checkpoint_of(target, "nnUNetTrainerActiveAdamW")["logging"]["lrs"] == [0.25]
    (log,) = output_folder(target, "nnUNetTrainerActiveAdamW").glob("training_log_*.txt")
    said = "initial learning rate 0.25, the campaign's (--lr); nnUNetTrainerActiveAdamW's own is 0.001."
    assert said in log.read_text() and said in capsys.readouterr().out


def test_the_campaign_of_a_training_does_not_bind_another_trainer_to_the_schedule_of_the_first(nnunet_folders):
    target = make_target(nnunet_folders)
    trainer_of(target, "nnUNetTrainerASSFT").initialize()
    assert campaign_of(target).settings.epochs is None
    other = trainer_of(target, "nnUNetTrainerActiveAdamW")
    assert (other.num_epochs, other.initial_lr) == (600, 1e-3)
    assert trainer_of(target, "nnUNetTrainerASSFT").num_epochs == 200


def test_a_trainers_own_epochs_that_end_before_the_last_query_are_refused_before_a_campaign_begins(
    nnunet_folders, monkeypatch, capsys
):
    from nnunet_active.trainers.nnUNetTrainerMmActS import nnUNetTrainerMmActS

    monkeypatch.setattr(nnUNetTrainerMmActS, "active_epochs", 80)
    target = make_target(nnunet_folders)
    with pytest.raises(SystemExit) as stop:
        trainer_of(target).initialize()
    assert stop.value.code == 2
    assert "3 queries every 40 epochs reach epoch 80, but the training ends after 80 epochs" in capsys.readouterr().out
    assert not (target.preprocessed / "active" / "fold_0").exists()


def test_a_trainer_with_fewer_epochs_may_train_once_the_budget_is_spent(nnunet_folders, monkeypatch):
    from nnunet_active.trainers.nnUNetTrainerMmActS import nnUNetTrainerMmActS

    target = make_target(nnunet_folders)
    start(target, **SHORT, budget=2)
    trainer_of(target).run_training()
    state = target.preprocessed / "active" / "fold_0" / "campaign.json"
    state.write_text(state.read_text().replace('"epochs": 2', '"epochs": null'))
    monkeypatch.setattr(nnUNetTrainerMmActS, "active_epochs", 1)
    trainer_of(target).run_training()
    assert checkpoint_of(target)["current_epoch"] == 1
