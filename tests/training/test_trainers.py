"""The trainers' own settings, which count where no campaign was prepared."""

from __future__ import annotations

import pytest

from nnunet_active.campaign.fine_tuning import DEFAULT_RECIPE, recipe
from nnunet_active.campaign.settings import Settings
from nnunet_active.trainers.nnUNetTrainerActive import nnUNetTrainerActive
from nnunet_active.trainers.nnUNetTrainerActiveAdamW import nnUNetTrainerActiveAdamW
from nnunet_active.trainers.nnUNetTrainerASSFT import nnUNetTrainerASSFT
from nnunet_active.trainers.nnUNetTrainerMmActS import nnUNetTrainerMmActS


@pytest.mark.parametrize("trainer", [nnUNetTrainerMmActS, nnUNetTrainerASSFT])
def test_the_papers_trainers_are_fine_tuned_as_the_papers_do(trainer):
    assert trainer.active_fine_tuning == recipe("plain") == {}


@pytest.mark.parametrize("trainer", [nnUNetTrainerActive, nnUNetTrainerActiveAdamW])
def test_our_own_trainers_take_the_default_recipe(trainer):
    assert trainer.active_fine_tuning == recipe(DEFAULT_RECIPE)


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
