from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from tiny_target import make_target
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

from nnunet_active.campaign.pseudo_label_settings import PseudoLabelSettings
from nnunet_active.data.ignore_label import add_ignore_label
from nnunet_active.data.partly_labelled import read_label_map
from nnunet_active.training.pseudo_dataset import MixedDataset
from nnunet_active.training.semi_supervised import PseudoLabelling
from nnunet_active.util.errors import CampaignError

ALL = {"confident_fraction": 1.0, "nearer_fraction": 1.0, "allow_empty": True}
ROUNDS = {"strategy": "assft", "stride": 2, "epochs": 4, "budget": 2, "pseudo_labels": ALL}


class Session:
    """Knows rounds of four epochs, the last of which is longer."""

    def round_epochs(self, epoch: int, epochs: int) -> tuple[int, int]:
        return (0, 4) if epoch < 4 else (4, 8) if epoch < 8 else (4, epochs)


@pytest.mark.parametrize(
    ("fraction", "begins"), [(0.0, [0, 4]), (0.5, [2, 6]), (0.3, [2, 6]), (0.25, [1, 5]), (1.0, [4, 8])]
)
def test_the_first_part_of_a_round_is_trained_on_labels_alone(fraction, begins):
    pseudo = PseudoLabelling(Session(), PseudoLabelSettings(labelled_fraction=fraction), 20)
    assert [pseudo.begins_at(epoch) for epoch in (0, 3)] == [begins[0]] * 2
    # at epoch 8 a query found nobody: the set of the round as it was planned stays
    assert [pseudo.begins_at(epoch) for epoch in (4, 7, 8, 19)] == [begins[1]] * 4


def loads(trainer) -> list[list[str]]:
    """Which cases, by epoch, a training loads; pseudo-labelled ones in capitals."""
    seen: list[list[str]] = []
    original = trainer.on_train_epoch_start

    def watch() -> None:
        data = trainer.dataloader_train.data_loader._data
        seen.append([])
        for part, name in ((getattr(data, "labelled", data), str), (getattr(data, "pseudo", None), str.upper)):
            if part is not None:
                _watch_loads(part, name, seen)
        original()

    trainer.on_train_epoch_start = watch
    return seen


def _watch_loads(part, name, seen) -> None:
    if hasattr(part, "watched"):
        return
    load, part.watched = part.load_case, True
    part.load_case = lambda case: (seen[-1].append(name(case)), load(case))[1]


def test_each_round_trains_on_labels_and_then_on_labels_and_reliable_predictions(nnunet_folders, capsys):
    target = make_target(nnunet_folders, labelled=7)
    start(target, **{**ROUNDS, "iterations": 8})
    trainer = trainer_of(target, "nnUNetTrainerASSFT")
    sets, seen = [], loads(trainer)
    original = trainer.on_epoch_start

    def look() -> None:
        original()
        sets.append((trainer.session.labelled(trainer.current_epoch), list(trainer.pseudo.cases)))

    trainer.on_epoch_start = look
    trainer.run_training()
    campaign = campaign_of(target)
    first, second = campaign.requested()
    everybody = set(target.store.identifiers()) - set(campaign.val)
    assert [labelled for labelled, _ in sets] == [[first]] * 2 + [sorted([first, second])] * 2
    assert [pseudo for _, pseudo in sets] == [
        [],
        sorted(everybody - {first}),
        [],
        sorted(everybody - {first, second}),
    ]
    for epoch, (labelled, pseudo) in enumerate(sets):
        assert {case for case in seen[epoch] if not case.isupper()} <= set(labelled)
        assert {case.lower() for case in seen[epoch] if case.isupper()} <= set(pseudo)
        assert any(case.isupper() for case in seen[epoch]) == bool(pseudo)
    log = [json.loads(line) for line in (output_folder(target, "nnUNetTrainerASSFT") / "active_log.jsonl").open()]
    assert [entry["epoch"] for entry in log if entry["event"] == "pseudo_labels"] == [1, 3]
    assert "begins again from the source weights" in capsys.readouterr().out


def test_pseudo_labels_stay_out_of_nnunets_folders_and_the_splits_and_only_the_last_set_is_left(nnunet_folders):
    target = make_target(nnunet_folders)
    before = {file for root in (target.raw, target.store.folder) for file in root.rglob("*")}
    start(target, **ROUNDS)
    trainer_of(target, "nnUNetTrainerASSFT").run_training()
    assert {file for root in (target.raw, target.store.folder) for file in root.rglob("*")} == before
    campaign = campaign_of(target)
    assert json.loads((target.preprocessed / "splits_final.json").read_text())[0]["train"] == campaign.labelled()
    assert set(campaign.labelled()) == set(campaign.requested())
    (left,) = (campaign.folder / "pseudo").iterdir()
    assert left.name == "round_002_epoch_0003"
    for link in left.glob("case_?.b2nd"):
        assert os.path.samefile(link, target.store.folder / link.name)


def test_a_killed_assft_run_ends_like_one_that_was_not(tmp_path, monkeypatch):
    ends = []
    for kill in (None, 1, 2, 3):
        target = fresh_target(tmp_path / str(kill), monkeypatch)
        start(target, **ROUNDS)
        run_with_kill(target, kill, "nnUNetTrainerASSFT")
        checkpoint = checkpoint_of(target, "nnUNetTrainerASSFT")
        ends.append((campaign_of(target).requested(), checkpoint["network_weights"]))
    for requested, weights in ends[1:]:
        assert requested == ends[0][0]
        assert_equal_weights(weights, ends[0][1])


def test_a_run_killed_between_the_set_and_the_next_query_goes_on_with_that_set(tmp_path, monkeypatch):
    """The checkpoint is of an epoch in the middle of the semi-supervised part."""
    ends = []
    for kill in (None, 3):
        target = fresh_target(tmp_path / str(kill), monkeypatch)
        start(target, **{**ROUNDS, "stride": 6, "epochs": 6, "budget": 1, "fine_tuning": {"ema_epochs": 2.0}})
        trainer = trainer_of(target, "nnUNetTrainerASSFT")
        trainer.save_every = 4  # after epoch 3; the set is made before it
        if kill:
            original = trainer.on_train_epoch_start

            def die(trainer=trainer, original=original) -> None:
                if trainer.current_epoch == 4:
                    raise RuntimeError("killed")
                original()

            trainer.on_train_epoch_start = die
            with pytest.raises(RuntimeError, match="killed"):
                trainer.run_training()
            trainer.session.end()
            trainer = trainer_of(target, "nnUNetTrainerASSFT", resume=True)
            assert trainer.current_epoch == 4
        trainer.run_training()
        ends.append(checkpoint_of(target, "nnUNetTrainerASSFT")["network_weights"])
    assert_equal_weights(*ends)


@pytest.mark.parametrize(
    ("trainer", "pseudo", "on"),
    [
        ("nnUNetTrainerASSFT", None, True),
        ("nnUNetTrainerASSFT", {"share": 0}, False),
        ("nnUNetTrainerMmActS", None, False),
        ("nnUNetTrainerMmActS", {"share": 0.25}, True),
        ("nnUNetTrainerActiveAdamW", {}, True),
    ],
)
def test_semi_supervised_training_is_switched_by_the_campaign_else_by_the_trainer(nnunet_folders, trainer, pseudo, on):
    target = make_target(nnunet_folders, labelled=2)
    start(target, fold="all", strategy="random", pseudo_labels=pseudo)
    made = trainer_of(target, trainer, fold="all")
    assert (made.pseudo_settings is not None) is on
    if on and pseudo:
        assert made.pseudo_settings.share == 0.25


def test_assft_without_init_has_five_equal_rounds_from_the_source(nnunet_folders):
    target = make_target(nnunet_folders, labelled=2)
    trainer = trainer_of(target, "nnUNetTrainerASSFT", fold="all")
    trainer.initialize()
    settings = campaign_of(target, "all").settings
    assert (settings.strategy, settings.queries, trainer.num_epochs) == ("assft", 5, 200)
    assert trainer.num_epochs == settings.queries * settings.stride
    assert trainer.restart == "source" and trainer.pseudo_settings == PseudoLabelSettings()


def test_where_nothing_is_reliable_the_round_trains_on_labels_alone(nnunet_folders, capsys):
    target = make_target(nnunet_folders)
    pseudo = {"confident_fraction": 0.0}
    start(target, strategy="random", stride=2, epochs=2, budget=1, pseudo_labels=pseudo)
    trainer = trainer_of(target)
    trainer.run_training()
    assert "0 of 3 unlabelled cases are reliable" in capsys.readouterr().out
    assert trainer.pseudo.cases == ()
    assert len(campaign_of(target).labelled()) == 1


def test_regions_and_two_dimensions_train_on_pseudo_labels_too(nnunet_folders):
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    target = make_target(nnunet_folders, labels=labels, regions_class_order=[1, 2], name="2d")
    start(target, **{**ROUNDS, "epochs": 2, "budget": 1})
    trainer = trainer_of(target, "nnUNetTrainerASSFT")
    trainer.run_training()
    data = trainer.dataloader_train.data_loader._data
    assert isinstance(data, MixedDataset)
    assert len(data.pseudo.identifiers) == 3


def test_with_background_workers_the_pseudo_labelled_cases_come_in_and_nobody_stays_behind(nnunet_folders, monkeypatch):
    import multiprocessing

    monkeypatch.setenv("nnUNet_n_proc_DA", "2")
    target = make_target(nnunet_folders)
    start(target, **{**ROUNDS, "epochs": 2, "budget": 1, "iterations": 12, "pseudo_labels": {**ALL, "share": 0.8}})
    trainer = trainer_of(target, "nnUNetTrainerASSFT")
    batches, original = [], trainer.train_step

    def step(batch):
        batches.append((trainer.current_epoch, batch["data"].clone()))
        return original(batch)

    trainer.train_step = step
    trainer.run_training()
    assert {epoch for epoch, _ in batches} == {0, 1}
    assert all(torch.isfinite(data).all() for _, data in batches)
    assert not [process for process in multiprocessing.active_children() if process.is_alive()]


def test_a_withheld_label_is_never_read_for_a_pseudo_label(nnunet_folders):
    target = make_target(nnunet_folders)
    campaign = start(target, **ROUNDS)
    trainer = trainer_of(target, "nnUNetTrainerASSFT")
    trainer.initialize()
    original = trainer.session.take_up_labels

    def take_up(epoch):
        waiting = original(epoch)
        open_to_see = {*campaign_of(target).labelled(), *campaign.val}
        for file in target.store.folder.glob("*_seg.b2nd"):
            if file.name.removesuffix("_seg.b2nd") not in open_to_see and file.stat().st_size > 10:
                file.with_name(file.name + ".kept").write_bytes(file.read_bytes())
                file.write_bytes(b"nothing")
        for case in open_to_see:
            kept = target.store.folder / f"{case}_seg.b2nd.kept"
            if kept.is_file():
                kept.replace(kept.with_suffix(""))
        for kept in target.store.folder.glob("*.kept"):
            kept.rename(target.root / kept.name)
        return waiting

    def reveal(cases):
        for case in cases:
            kept = target.root / f"{case}_seg.b2nd.kept"
            if kept.is_file():
                kept.replace(target.store.folder / f"{case}_seg.b2nd")

    trainer.session.take_up_labels = lambda epoch: (reveal(campaign_of(target).requested()), take_up(epoch))[1]
    trainer.run_training()
    assert len(campaign_of(target).labelled()) == 2
    assert np.isfinite(checkpoint_of(target, "nnUNetTrainerASSFT")["logging"]["train_losses"]).all()


def test_settings_that_make_no_sense_are_refused(nnunet_folders):
    target = make_target(nnunet_folders, labelled=2)
    with pytest.raises(CampaignError, match="no setting tau of pseudo-labels"):
        start(target, fold="all", pseudo_labels={"tau": 1})


def test_another_fold_of_a_cross_validation_keeps_a_reliable_set_of_its_own_and_compares_on_its_own_cases(
    nnunet_folders,
):
    import pandas as pd

    target = make_target(nnunet_folders)
    start(target, **{**ROUNDS, "strategy": "random", "folds": 2})
    trainer_of(target, "nnUNetTrainerASSFT").run_training()
    campaign = campaign_of(target)
    first = sorted((campaign.folder / "pseudo").rglob("*"))
    other = trainer_of(target, "nnUNetTrainerASSFT", fold=1)
    other.run_training()
    assert sorted((campaign.folder / "pseudo").rglob("*")) == first
    train, val = other.do_split()
    (made,) = (campaign.folder / "pseudo_fold_1").iterdir()
    assert {file.stem for file in made.glob("case_?.b2nd")} == set(target.store.identifiers()) - {*train, *val}
    table = pd.read_csv(output_folder(target, "nnUNetTrainerASSFT", 1) / "comparison.csv")
    assert set(table["case"]) == set(val) and set(table["kind"]) == {"held_out"}
    assert not set(train) & set(val)


@pytest.mark.parametrize(("share", "number"), [(1.0, 4), (0.5, 2)])
def test_reliable_predictions_fill_partly_labelled_cases_and_drawn_slices_win(nnunet_folders, share, number):
    target = make_target(nnunet_folders, name="2d")
    add_ignore_label([target.raw / "dataset.json", target.preprocessed / "dataset.json"])
    slices = {"unit": "slice", "budget": 8, "query_size": 4, "per_case": 1, "strategy": "random"}
    start(target, **{**ROUNDS, **slices, "pseudo_labels": {**ALL, "confident_fraction": share}})
    trainer = trainer_of(target, "nnUNetTrainerASSFT")
    seen = loads(trainer)
    trainer.run_training()
    campaign, known = campaign_of(target), trainer.session.known_slices.folder
    (folder,) = (campaign.folder / "pseudo").iterdir()
    filled = trainer.pseudo.current.filled
    assert len(filled) == number and set(filled) <= set(campaign.labelled()) and campaign.labels_known() == 8
    for case in campaign.labelled():
        drawn = read_label_map(known, case)
        assert (drawn == 3).any()
        if case not in filled:
            assert not (folder / f"{case}_seg.b2nd").exists()
            continue
        label = nnUNetDatasetBlosc2(str(folder), [case]).load_case(case)[1][:]
        np.testing.assert_array_equal(label[drawn != 3], drawn[drawn != 3])
        assert not (label == 3).any()
    assert {case.lower() for case in seen[3] if case.isupper()} <= {*filled, *trainer.pseudo.current.cases}
    assert set(trainer.pseudo.current.table["partly_labelled"]) >= {True}
