"""What an earlier training of the same fold left behind."""

from __future__ import annotations

import pytest
from tiny_target import make_target
from tiny_training import assert_equal_weights, campaign_of, output_folder, start, trainer_of

from nnunet_active.campaign.fine_tuning import recipe
from nnunet_active.training.earlier_training import earlier_training
from nnunet_active.training.weights import copy_weights


def test_where_nothing_was_trained_there_is_none(tmp_path):
    assert earlier_training(tmp_path, {}, pytest.fail) is None


@pytest.mark.parametrize("settings", [{}, {"fine_tuning": recipe("interpolated")}])
def test_it_is_the_network_that_predicts_and_the_one_that_was_trained(nnunet_folders, settings):
    target = make_target(nnunet_folders)
    start(target, epochs=2, **settings)
    trainer = trainer_of(target)
    trainer.run_training()
    found = earlier_training(output_folder(target), trainer.adaptation.source, pytest.fail)
    assert_equal_weights(found.trained, copy_weights(trainer.network))
    with trainer.adaptation.predicting():
        assert_equal_weights(found.predicting, copy_weights(trainer.network))
    assert found.labelled == set(campaign_of(target).labelled()) and found.epoch == 2


def test_where_an_average_predicts_it_is_the_average_that_was_trained(nnunet_folders):
    target = make_target(nnunet_folders)
    start(target, epochs=2, fine_tuning={"ema_epochs": 2.0})
    trainer = trainer_of(target)
    trainer.run_training()
    found = earlier_training(output_folder(target), trainer.adaptation.source, pytest.fail)
    with trainer.adaptation.predicting():
        assert_equal_weights(found.trained, copy_weights(trainer.network))
    assert any(not found.trained[name].equal(tensor) for name, tensor in copy_weights(trainer.network).items())


def test_a_network_of_other_shapes_is_none(nnunet_folders):
    target = make_target(nnunet_folders)
    start(target, epochs=2)
    trainer = trainer_of(target)
    trainer.run_training()
    other = {name: tensor[None] for name, tensor in trainer.adaptation.source.items()}
    assert earlier_training(output_folder(target), other, lambda sentence: None) is None


def test_a_network_of_another_campaign_or_of_another_source_is_none(nnunet_folders):
    target = make_target(nnunet_folders)
    campaign = start(target, epochs=2)
    trainer = trainer_of(target)
    trainer.run_training()
    folder, source = output_folder(target), trainer.adaptation.source
    assert earlier_training(folder, source, pytest.fail, campaign.begun) is not None
    for other in ("2026-01-01T00:00:00+00:00", "2999-01-01T00:00:00+00:00"):
        assert earlier_training(folder, source, pytest.fail, other) is None
    said: list[str] = []
    assert earlier_training(folder, {name: tensor + 1 for name, tensor in source.items()}, said.append) is None
    assert len(said) == 1 and said[0].startswith("WARNING: the training before began from another source network")


def test_a_damaged_checkpoint_is_named_and_is_none(nnunet_folders):
    target = make_target(nnunet_folders)
    start(target, epochs=2)
    trainer = trainer_of(target)
    trainer.run_training()
    (output_folder(target) / "checkpoint_final.pth").write_bytes(b"damaged")
    said: list[str] = []
    assert earlier_training(output_folder(target), trainer.adaptation.source, said.append) is None
    assert len(said) == 1 and "checkpoint_final.pth" in said[0]
