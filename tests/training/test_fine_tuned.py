"""Whole trainings with the settings of fine_tuning, and with a new beginning in each round."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_target import PLANS, make_target
from tiny_training import (
    assert_equal_weights,
    campaign_of,
    checkpoint_of,
    fresh_target,
    output_folder,
    run_with_kill,
    start,
    trainer_of,
)

from nnunet_active.campaign.fine_tuning import recipe
from nnunet_active.models.model_writing import save_source_model
from nnunet_active.models.source_model import read_source_model, source_folder
from nnunet_active.training.weights import copy_weights

AVERAGED = {"ema_epochs": 2.0}


@pytest.mark.parametrize(
    ("name", "settings", "epochs"),
    [
        ("nnUNetTrainerMmActS", {"fine_tuning": AVERAGED}, [0, 1, 2]),
        ("nnUNetTrainerActiveAdamW", {"fine_tuning": AVERAGED, "restart": "source"}, [1, 2]),
        ("nnUNetTrainerActiveAdamW", {"fine_tuning": {"interpolation": 0.5, "ema_epochs": 2.0}}, [1, 2]),
        ("nnUNetTrainerMmActS", {"fine_tuning": {"interpolation": 0.5}}, [2]),
    ],
)
def test_a_killed_run_with_average_and_interpolation_ends_like_one_that_was_not(
    tmp_path, monkeypatch, name, settings, epochs
):
    ends = []
    for kill in (None, *epochs):
        target = fresh_target(tmp_path / str(kill), monkeypatch)
        start(target, **settings)
        run_with_kill(target, kill, name)
        ends.append((campaign_of(target).requested(), checkpoint_of(target, name)))
    for requested, checkpoint in ends[1:]:
        assert requested == ends[0][0]
        assert_equal_weights(checkpoint["network_weights"], ends[0][1]["network_weights"])
        own, others = checkpoint["nnunet_active"]["trained_weights"], ends[0][1]["nnunet_active"]["trained_weights"]
        assert_equal_weights(own, others)


def test_the_checkpoint_holds_the_average_for_the_stock_predictor_and_the_trained_weights_beside_it(
    nnunet_folders, monkeypatch
):
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    target = make_target(nnunet_folders)
    start(target, fine_tuning=AVERAGED)
    trainer = trainer_of(target)
    trainer.run_training()
    trained = copy_weights(trainer.network)
    with trainer.adaptation.predicting():
        average = copy_weights(trainer.network)
    assert not torch.equal(next(iter(trained.values())), next(iter(average.values())))
    assert_equal_weights(checkpoint_of(target)["nnunet_active"]["trained_weights"], trained)
    again = trainer_of(target, resume=True)
    assert_equal_weights(copy_weights(again.network), trained)
    with again.adaptation.predicting():
        assert_equal_weights(copy_weights(again.network), average)
    monkeypatch.delenv("nnUNet_extTrainer")  # a colleague without this package
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(output_folder(target).parent), (0,))
    predictor.network.load_state_dict(predictor.list_of_parameters[0])
    assert_equal_weights(copy_weights(predictor.network), average)


def test_validation_and_queries_see_the_average_and_training_does_not(nnunet_folders):
    target = make_target(nnunet_folders)
    start(target, fine_tuning={"ema_epochs": 3.0})
    trainer = trainer_of(target)
    seen: dict[str, list[bool]] = {"train": [], "validate": [], "query": []}

    def watch(name: str, function):
        def call(*arguments):
            now, trained = copy_weights(trainer.network), trainer.adaptation.state()["trained_weights"]
            seen[name].append(any(not torch.equal(value, trained[key]) for key, value in now.items()))
            return function(*arguments)

        return call

    trainer.train_step = watch("train", trainer.train_step)
    trainer.validation_step = watch("validate", trainer.validation_step)
    trainer.initialize()
    trainer.session.query_if_due = watch("query", trainer.session.query_if_due)
    trainer.run_training()
    assert set(seen["train"]) == {False} and len(seen["train"]) == 6
    assert set(seen["validate"]) == {True} and len(seen["validate"]) == 3
    assert seen["query"] == [False, False, True, True]  # before the first step all are the source's


def test_with_a_restart_each_round_begins_at_the_source_with_its_own_schedule(nnunet_folders):
    target = make_target(nnunet_folders)
    start(target, restart="source", stride=2, epochs=5, initial_lr=0.1)
    trainer = trainer_of(target)
    begun, original = [], trainer.on_train_epoch_start

    def look() -> None:
        weights = copy_weights(trainer.network, "cpu")
        begun.append(all(torch.equal(weights[name], value) for name, value in trainer.adaptation.source.items()))
        original()

    trainer.on_train_epoch_start = look
    trainer.run_training()
    assert [one.epoch for one in campaign_of(target).rounds] == [0, 2]
    assert begun == [True, False, True, False, False]
    fractions = [0, 1 / 2, 0, 1 / 3, 2 / 3]
    expected = [0.1 * (1 - x) ** 0.9 for x in fractions]
    assert checkpoint_of(target)["logging"]["lrs"] == pytest.approx(expected)


def test_without_a_restart_one_schedule_runs_through_all_rounds(nnunet_folders):
    target = make_target(nnunet_folders)
    start(target, initial_lr=0.1)
    trainer_of(target).run_training()
    expected = [0.1 * (1 - e / 3) ** 0.9 for e in range(3)]
    assert checkpoint_of(target)["logging"]["lrs"] == pytest.approx(expected)
    assert "trained_weights" not in checkpoint_of(target)["nnunet_active"]


def test_a_round_after_which_nobody_could_be_asked_goes_on_to_the_end(nnunet_folders):
    target = make_target(nnunet_folders, labelled=1)
    start(target, fold="all", restart="source", initial_lr=0.1)
    trainer = trainer_of(target, fold="all")
    trainer.run_training()
    lrs = torch.load(trainer.output_folder + "/checkpoint_final.pth", weights_only=False)["logging"]["lrs"]
    # [0, 1) is the round as planned; the query at epoch 1 finds nobody, so that epochs 1 and 2 belong to it as well
    assert lrs == pytest.approx([0.1, 0.1 * (2 / 3) ** 0.9, 0.1 * (1 / 3) ** 0.9])


def test_plain_leaves_the_schedule_and_the_weights_that_predict_as_the_trainer_made_them(nnunet_folders):
    target = make_target(nnunet_folders)
    start(target, epochs=2)
    trainer = trainer_of(target)
    trainer.run_training()
    assert type(trainer.lr_scheduler).__name__ == "PolyLRScheduler"
    found = checkpoint_of(target)["network_weights"]
    assert all(torch.equal(found[name], value) for name, value in copy_weights(trainer.network).items())
    assert trainer.adaptation.state() == {"interpolation": 1.0}


def test_an_untrained_head_is_the_same_one_in_every_process(tmp_path, monkeypatch):
    heads = []
    for kill in ("one", "other"):
        labels = {"background": 0, "cyst": 1, "vessel": 2}
        target = fresh_target(tmp_path / kill, monkeypatch, source_labels=labels)
        start(target)
        torch.manual_seed(hash(kill) % 1000)
        trainer = trainer_of(target)
        trainer.initialize()
        heads.append(copy_weights(trainer.network))
    assert_equal_weights(*heads)


@pytest.mark.parametrize("name", ["three_quarters", "held_out"])
def test_nothing_is_interpolated_towards_a_source_whose_head_says_nothing(nnunet_folders, capsys, name):
    target = make_target(nnunet_folders, source_labels={"background": 0, "liver": 1, "spleen": 2})
    start(target, epochs=2, fine_tuning=recipe(name))
    trainer = trainer_of(target)
    trainer.run_training()
    assert "no interpolation" in capsys.readouterr().out
    assert trainer.adaptation.interpolation == 1.0 and trainer.choice is None
    assert "trained_weights" not in checkpoint_of(target)["nnunet_active"]


def test_where_one_class_is_new_the_body_is_interpolated_and_the_head_is_the_trained_one(nnunet_folders):
    target = make_target(nnunet_folders, source_labels={"background": 0, "oedema": 1, "spleen": 2})
    start(target, epochs=2, fine_tuning=recipe("three_quarters"))
    trainer = trainer_of(target)
    trainer.run_training()
    trained, found = copy_weights(trainer.network), checkpoint_of(target)["network_weights"]
    for key, value in trained.items():
        same = torch.equal(found[key], value)
        assert (
            same
            if "seg_layers" in key
            else torch.equal(found[key], torch.lerp(trainer.adaptation.source[key], value, 0.75))
        )


@pytest.mark.parametrize(("axes", "mirrored"), [(None, ()), ((1,), (1,)), ((0, 1, 2), (0, 1, 2))])
def test_a_training_mirrors_along_no_axis_along_which_its_source_was_not_mirrored(
    nnunet_folders, capsys, axes, mirrored
):
    target = make_target(nnunet_folders)
    kept = source_folder(target.preprocessed, PLANS, target.configuration)
    source = replace(read_source_model(kept, target.configuration), mirror_axes=axes or ())
    save_source_model(source, kept)
    start(target, strategy="entropy", epochs=2, fine_tuning={"compare": False})
    trainer, seen = trainer_of(target), []
    make = trainer.get_training_transforms

    def transforms(patch_size, rotation, supervision, mirror_axes, *more, **how):
        seen.append(mirror_axes)
        return make(patch_size, rotation, supervision, mirror_axes, *more, **how)

    trainer.get_training_transforms = transforms
    trainer.initialize()
    assert trainer._window().mirror_axes == mirrored
    trainer.run_training()
    assert seen and set(seen) == {mirrored or None} and trainer._window().mirror_axes == mirrored
    content = torch.load(output_folder(target) / "checkpoint_final.pth", weights_only=False)
    assert content["inference_allowed_mirroring_axes"] == (mirrored or None)
    said = capsys.readouterr().out
    assert said.count("as in the source's training; this trainer would mirror along") == (axes != (0, 1, 2))
