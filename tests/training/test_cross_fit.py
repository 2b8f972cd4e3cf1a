"""Cross-fit networks that judge before a training: who is left out, whole trainings, and that nothing else changes."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest
from tiny_target import make_target
from tiny_training import (
    assert_equal_weights,
    checkpoint_of,
    fresh_target,
    interpolations_of,
    output_folder,
    start,
    trainer_of,
)

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.fine_tuning import recipe
from nnunet_active.data.ignore_label import add_ignore_label
from nnunet_active.data.patients import Patients
from nnunet_active.nnunet.safe_checkpoint import weights_digest
from nnunet_active.training.cross_fit import CrossFit, folds_of
from nnunet_active.training.guarded_choice import FLOOR, FLOOR_OF_MANY, OPEN, GuardedChoice, gate

ONE_ROUND = {"budget": 3, "query_size": 3, "one_off": True, "epochs": 4, "strategy": "random", "stride": 1}
ON = {**ONE_ROUND, "fine_tuning": recipe("guarded")}


def rows_of(target, fold="all") -> pd.DataFrame:
    table = pd.read_csv(output_folder(target, fold=fold) / "comparison.csv", dtype={"case": str})
    return table[table["kind"] == "cross_fit"]


def test_up_to_three_cases_are_left_out_one_by_one_and_more_in_two_halves():
    assert folds_of(["a", "b"], Patients(), 0) == [["a"], ["b"]]
    assert folds_of(["a"], Patients(), 0) == [] == folds_of([], Patients(), 0)
    for cases in ("abcd", "abcdefg"):
        first, second = folds_of(list(cases), Patients(), 0)
        assert sorted(first + second) == list(cases) and abs(len(first) - len(second)) <= 1
    assert len({str(folds_of(list("abcdefg"), Patients(), seed)) for seed in range(9)}) > 1


def test_scans_of_one_patient_are_left_out_together():
    patients = Patients(r"^(\w)")
    assert folds_of(["a1", "a2"], patients, 0) == []
    assert folds_of(["a1", "a2", "b1", "b2"], patients, 0) == [["a1", "a2"], ["b1", "b2"]]
    first, second = folds_of([f"{one}{n}" for one in "abcde" for n in (1, 2)], patients, 0)
    assert not {case[0] for case in first} & {case[0] for case in second}


def test_with_one_round_every_labelled_case_is_judged_by_a_network_that_has_not_seen_it(nnunet_folders, capsys):
    target = make_target(nnunet_folders)
    start(target, fold="all", **ON, iterations=3)
    trainer = trainer_of(target, fold="all")
    trainer.run_training()
    labelled = trainer.session.labelled(0)
    rows = rows_of(target)
    assert sorted(set(rows["case"])) == labelled and len(labelled) == 3
    assert set(rows["model"]) == {"source", *(f"alpha {a:g}" for a in (FLOOR, FLOOR_OF_MANY, OPEN))}
    judging = rows[rows["model"] != "source"]
    assert set(judging["epoch"]) == {2} and set(judging["labelled"]) == {2}
    networks = judging.groupby("case")["network"].agg(set)
    assert all(len(found) == 3 for found in networks) and len(set.union(*networks)) == 3 * 3
    (end,) = interpolations_of(target, "all")
    assert end["cases"] == 3 and {row["kind"] for row in end["by_case"]} == {"cross_fit"}
    said = capsys.readouterr().out
    assert "Cross-fit: 3 extra trainings of 2 epochs first (the first round of this one has 4)." in said
    assert re.search(r"Cross-fit: about \d+ s in all, at \d+\.\d\d seconds a step\.", said)


def test_a_network_is_trained_on_nothing_that_it_judges(nnunet_folders, monkeypatch):
    target = make_target(nnunet_folders)
    start(target, fold="all", **ON)
    trainer, read, judged = trainer_of(target, fold="all"), [], []
    make, measure = trainer.get_tr_and_val_datasets, GuardedChoice.measure

    def made():
        datasets = make()
        read.append([set(one.identifiers) for one in datasets])
        return datasets

    def measured(choice, epoch, cases, kind, earlier=None):
        judged.append(set(cases))
        measure(choice, epoch, cases, kind, earlier)

    rates, step = [], trainer.train_step

    def stepped(batch):
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        return step(batch)

    trainer.get_tr_and_val_datasets, trainer.train_step = made, stepped
    monkeypatch.setattr(GuardedChoice, "measure", measured)
    trainer.run_training()
    labelled = set(trainer.session.labelled(0))
    assert read == [[labelled - left_out] * 2 for left_out in judged[:3]] + [[labelled] * 2]
    assert set.union(*judged[:3]) == labelled
    of_the_training = rates[-8::2]  # four epochs of two steps, after three networks of two epochs
    assert rates[:-8] == [rate for rate in of_the_training[::2] for _ in range(2)] * 3


EVERYONE = {"confident_fraction": 1.0, "nearer_fraction": 1.0, "allow_empty": True, "labelled_fraction": 0.5}
WAYS = {
    "plain": {},
    "restart": {"restart": "source"},
    "pseudo-labels": {"pseudo_labels": EVERYONE},
    "average": {"fine_tuning": {**recipe("guarded"), "ema_epochs": 1}},
    "slices": {"unit": "slice", "budget": 6, "query_size": 6, "per_case": 2},
}


@pytest.mark.parametrize("way", WAYS)
def test_the_training_that_follows_is_the_one_without_cross_fit_to_the_bit(tmp_path, monkeypatch, way):
    monkeypatch.setattr("nnunet_active.training.guarded_choice.gate", lambda *given: 0.5)
    ends = []
    for name in ("on", "off"):
        target = fresh_target(tmp_path / name, monkeypatch)
        if way == "slices":
            add_ignore_label([target.raw / "dataset.json", target.preprocessed / "dataset.json"])
        settings = {**ON, **WAYS[way]}
        if name == "off":
            settings["fine_tuning"] = {**settings["fine_tuning"], "cross_fit": False}
        start(target, **settings)
        trainer = trainer_of(target)
        trainer.run_training()
        ends.append(checkpoint_of(target))
        if name == "on":
            assert sorted(set(rows_of(target, 0)["case"])) == trainer.session.labelled(0)
    assert_equal_weights(*(end["network_weights"] for end in ends))
    own = [{name: part for name, part in end["nnunet_active"].items() if isinstance(part, dict)} for end in ends]
    assert own[0].keys() == own[1].keys() and "trained_weights" in own[0]
    for part in own[0]:
        assert_equal_weights(own[0][part], own[1][part])
    losses = [end["logging"]["train_losses"] for end in ends]
    assert losses[0] == losses[1]


def kept(target) -> list:
    """What a training ends with."""
    checkpoint, (end,) = checkpoint_of(target), interpolations_of(target)[-1:]
    rows = rows_of(target, 0).sort_values(["model", "case", "label"]).to_dict("records")
    return [weights_digest(checkpoint["nnunet_active"]["trained_weights"]), str(rows), end["chosen"], end["by_case"]]


@pytest.mark.parametrize("go_on", ["--c", "again"])
@pytest.mark.parametrize("step", [1, 6])  # in the first fold, and in the second: four steps each
def test_a_killed_cross_fit_goes_on_with_the_folds_that_are_missing(tmp_path, monkeypatch, go_on, step):
    target = fresh_target(tmp_path / "whole", monkeypatch)
    start(target, **ON)
    trainer_of(target).run_training()
    expected = kept(target)
    target = fresh_target(tmp_path / "killed", monkeypatch)
    start(target, **ON)
    trainer, steps = trainer_of(target), []
    original = trainer.train_step

    def die(batch):
        steps.append(batch)
        if len(steps) == step:
            raise KeyboardInterrupt
        return original(batch)

    trainer.train_step = die
    with pytest.raises(KeyboardInterrupt):
        trainer.run_training()
    trainer.session.end()  # the operating system does this for a process that dies
    trainer_of(target, resume=go_on == "--c").run_training()
    assert kept(target) == expected
    (entry,) = events(target, "cross_fit")
    assert entry["trained"] == 3 - (step > 4)


def events(target, name: str, fold="0") -> list[dict]:
    lines = (output_folder(target, fold=fold) / "active_log.jsonl").read_text().splitlines()
    return [entry for line in lines if (entry := json.loads(line))["event"] == name]


def test_a_second_training_on_the_same_labels_takes_the_folds_of_the_first_and_one_on_others_does_not(nnunet_folders):
    target = make_target(nnunet_folders)
    start(target, **ON)
    trainer = trainer_of(target)
    trainer.run_training()
    trainer_of(target).run_training()
    assert [entry["trained"] for entry in events(target, "cross_fit")] == [3]
    before = rows_of(target, 0)
    corrected, *others = trainer.session.labelled(0)
    target.label(corrected, 99)
    target.preprocess()
    trainer_of(target).run_training()
    assert [entry["trained"] for entry in events(target, "cross_fit")] == [3, 3]
    after = rows_of(target, 0)
    assert len(after) == len(before)
    for column, cases in (("network", others), ("reference", [corrected])):
        old, new = (set(t[t["case"].isin(cases) & (t["model"] != "source")][column]) for t in (before, after))
        assert (
            not old & new
        )  # the other column cannot differ: nobody else's label, nor what the network of its fold saw


def test_three_cases_that_judge_anyway_make_it_needless_and_its_earlier_rows_count_no_more(nnunet_folders, capsys):
    target = make_target(nnunet_folders)
    start(target, **ON)
    trainer_of(target).run_training()
    assert not rows_of(target, 0).empty
    trainer = trainer_of(target)
    trainer.initialize()
    held_out = trainer.session.held_out
    trainer.session.held_out = lambda epoch=None: [*held_out(epoch), *trainer.session.labelled(0)[:1]]
    capsys.readouterr()
    CrossFit(trainer, trainer.choice).run()
    assert "Cross-fit: none, 3 cases judge without it." in capsys.readouterr().out
    assert rows_of(target, 0).empty


def test_a_single_labelled_case_cannot_judge(nnunet_folders, capsys):
    target = make_target(nnunet_folders)
    start(target, **{**ON, "budget": 1, "query_size": 1})
    trainer_of(target).run_training()
    assert "Cross-fit: none, it takes two labelled cases" in capsys.readouterr().out
    assert rows_of(target, 0).empty


def test_a_case_that_was_judged_before_it_was_trained_on_is_not_left_out_again(nnunet_folders, monkeypatch, capsys):
    rules = []

    def noted(dice, labelled, weights, one_by_one, mixed):
        rules.append(one_by_one)
        return gate(dice, labelled, weights, one_by_one, mixed)

    monkeypatch.setattr("nnunet_active.training.guarded_choice.gate", noted)
    target = make_target(nnunet_folders, labelled=2, unlabelled=2)
    start(
        target,
        fold="all",
        oracle="folder",
        strategy="random",
        budget=1,
        stride=9,
        epochs=10,
        fine_tuning=recipe("guarded"),
    )
    monkeypatch.setattr(Campaign, "query_due", lambda campaign, epoch: False)  # a training on what is labelled
    for case in (None, "case_3"):
        if case:
            target.label(case, 3)
            target.preprocess()
        trainer = trainer_of(target, fold="all")
        trainer.num_epochs = 1
        trainer.run_training()
    end = interpolations_of(target, "all")[-1]
    assert {row["case"]: row["kind"] for row in end["by_case"]} == {
        "case_0": "cross_fit",
        "case_1": "cross_fit",
        "case_3": "prequential",
    }
    assert set(rows_of(target)["case"]) == {"case_0", "case_1"}
    trained = [entry["trained"] for entry in events(target, "cross_fit", "all")]
    assert trained == [2, 2]  # with case_3, the two of before were left out again: their networks have not seen it
    assert "Cross-fit: 2 extra trainings" in capsys.readouterr().out
    assert rules == [False, True]  # what came one by one is judged by the stricter rule
