"""The trainers' own settings, which count where no campaign was prepared."""

from __future__ import annotations

import os

import pytest
from tiny_target import make_target
from tiny_training import checkpoint_of, start, trainer_of

from nnunet_active.campaign.fine_tuning import default_recipe, recipe
from nnunet_active.campaign.settings import Settings
from nnunet_active.nnunet_discovery import discovery_folder
from nnunet_active.trainers.nnUNetTrainerActive import nnUNetTrainerActive
from nnunet_active.trainers.nnUNetTrainerActiveAdamW import nnUNetTrainerActiveAdamW
from nnunet_active.trainers.nnUNetTrainerASSFT import nnUNetTrainerASSFT
from nnunet_active.trainers.nnUNetTrainerMmActS import nnUNetTrainerMmActS


@pytest.mark.parametrize("trainer", [nnUNetTrainerMmActS, nnUNetTrainerASSFT])
def test_the_papers_trainers_are_fine_tuned_as_the_papers_do(trainer):
    assert trainer.active_fine_tuning == recipe("plain") == {}


@pytest.mark.parametrize("trainer", [nnUNetTrainerActive, nnUNetTrainerActiveAdamW])
def test_our_own_trainers_take_the_default_recipe(trainer):
    assert trainer.active_fine_tuning == recipe(default_recipe())


def test_mmacts_has_the_schedule_of_the_paper():
    trainer = nnUNetTrainerMmActS
    found = (trainer.strategy, trainer.active_budget, trainer.active_stride, trainer.active_epochs)
    assert found == ("mmacts", 3, 40, 600) and trainer.active_initial_lr == 0.01


def test_assft_asks_in_five_rounds_each_from_the_source_weights_and_semi_supervised():
    trainer = nnUNetTrainerASSFT
    settings = Settings(
        budget=trainer.active_budget, query_size=trainer.active_query_size, stride=trainer.active_stride
    )
    assert settings.queries == 5 and trainer.active_epochs == 5 * trainer.active_stride
    assert trainer.active_restart == "source" and trainer.active_pseudo_labels == {}


THREE_LINES = """
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerDA5 import nnUNetTrainerDA5
from nnunet_active.training.query_mixin import ActiveQueryMixin

class nnUNetTrainerMine(ActiveQueryMixin, nnUNetTrainerDA5):
    strategy = "entropy"
    active_epochs = 200
"""


@pytest.mark.parametrize("ours_first", [True, False])
def test_a_trainer_of_ones_own_in_a_folder_of_ones_own_is_found_beside_ours_and_trains(
    nnunet_folders, monkeypatch, ours_first
):
    folder = nnunet_folders / "my_trainers"
    folder.mkdir()
    (folder / "mine.py").write_text(THREE_LINES)
    both = [str(discovery_folder()), str(folder)]
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join(both if ours_first else reversed(both)))
    target = make_target(nnunet_folders)
    start(target, epochs=None, iterations=1, val_iterations=1, budget=1)
    trainer = trainer_of(target, "nnUNetTrainerMine")
    assert (trainer.num_epochs, trainer.initial_lr) == (200, 0.01)
    trainer.num_epochs = 1
    trainer.run_training()
    checkpoint = checkpoint_of(target, "nnUNetTrainerMine")
    assert checkpoint["trainer_name"] == "nnUNetTrainerDA5" and checkpoint["nnunet_active"]["labelled"]
    assert trainer_of(target).__class__ is nnUNetTrainerMmActS
