"""Cross-fit networks that judge before a training: who is left out, whole trainings, and that nothing else changes."""

from __future__ import annotations

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

from nnunet_active.campaign.fine_tuning import recipe
from nnunet_active.data.patients import Patients
from nnunet_active.training.cross_fit import folds_of
from nnunet_active.training.guarded_choice import FLOOR, OPEN

ONE_ROUND = {"budget": 3, "query_size": 3, "one_off": True, "epochs": 4, "strategy": "random", "stride": 1}
ON = {**ONE_ROUND, "fine_tuning": recipe("guarded")}
OFF = {**ONE_ROUND, "fine_tuning": {**recipe("guarded"), "cross_fit": False}}


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
    start(target, fold="all", **ON)
    trainer = trainer_of(target, fold="all")
    trainer.run_training()
    labelled = trainer.session.labelled(0)
    rows = rows_of(target)
    assert sorted(set(rows["case"])) == labelled and len(labelled) == 3
    assert set(rows["model"]) == {"source", *(f"alpha {a:g}" for a in (FLOOR, *OPEN))}
    judging = rows[rows["model"] != "source"]
    assert set(judging["epoch"]) == {2} and set(judging["labelled"]) == {2}
    networks = judging.groupby("case")["network"].agg(set)
    assert all(len(found) == 1 + len(OPEN) for found in networks) and len(set.union(*networks)) == 3 * (1 + len(OPEN))
    (end,) = interpolations_of(target, "all")
    assert end["cases"] == 3 and {row["kind"] for row in end["by_case"]} == {"cross_fit"}
    said = capsys.readouterr().out
    assert "Cross-fit: 3 extra trainings of 2 epochs each come before this one (its first round has 4)." in said


@pytest.mark.parametrize("restart", ["never", "source"])
def test_the_training_that_follows_is_the_one_without_cross_fit_to_the_bit(tmp_path, monkeypatch, restart):
    monkeypatch.setattr("nnunet_active.training.guarded_choice.gate", lambda dice: 0.5)
    ends = []
    for name, settings in (("on", ON), ("off", OFF)):
        target = fresh_target(tmp_path / name, monkeypatch)
        start(target, **settings, restart=restart)
        trainer_of(target).run_training()
        assert (len(rows_of(target, 0)) > 0) == (name == "on")
        ends.append(checkpoint_of(target))
    for part in ("network_weights",):
        assert_equal_weights(ends[0][part], ends[1][part])
    assert_equal_weights(*(end["nnunet_active"]["trained_weights"] for end in ends))
    losses = [end["logging"]["train_losses"] for end in ends]
    assert losses[0] == losses[1]
