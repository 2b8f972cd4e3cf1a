"""The interpolation that held-out cases choose: the rule against brute force, and whole trainings."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_target import make_target
from tiny_training import (
    assert_equal_weights,
    campaign_of,
    checkpoint_of,
    fresh_target,
    interpolations_of,
    output_folder,
    run_with_kill,
    start,
    trainer_of,
)

from nnunet_active.campaign.fine_tuning import recipe
from nnunet_active.training.held_out_choice import ALPHAS, nearest_within_one_standard_error
from nnunet_active.training.weights import copy_weights, interpolate

SETTINGS = {"fine_tuning": recipe("held_out")}


def table(*rows: list[float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=ALPHAS)


def test_a_gain_in_every_case_leaves_the_source():
    assert nearest_within_one_standard_error(table([0.5, 0.6, 0.7, 0.8, 0.9], [0.4, 0.5, 0.6, 0.7, 0.8])) == 1.0


def test_a_loss_in_every_case_keeps_the_source():
    assert nearest_within_one_standard_error(table([0.9, 0.8, 0.7, 0.6, 0.5], [0.8, 0.7, 0.6, 0.5, 0.4])) == 0.0


def test_a_gain_that_one_case_makes_alone_is_within_the_error_and_keeps_the_source():
    # the best is 1 with a mean gain of 0.1; over (0, 0, 0.3) one standard error is 0.1 as well
    same = [0.5] * 5
    assert nearest_within_one_standard_error(table(same, same, [0.5, 0.5, 0.5, 0.5, 0.8])) == 0.0


def test_of_equals_the_nearest_to_the_source_is_taken():
    assert nearest_within_one_standard_error(table([0.2, 0.7, 0.7, 0.7, 0.7], [0.2, 0.7, 0.7, 0.7, 0.7])) == 0.25


@given(st.lists(st.lists(st.integers(0, 100).map(lambda n: n / 100), min_size=5, max_size=5), min_size=2, max_size=9))
def test_the_rule_is_that_of_the_formula(rows):
    values = np.array(rows)
    means = values.mean(0)
    best = values[:, int(np.argmax(means))]
    expected = next(
        alpha
        for alpha, column in zip(ALPHAS, values.T, strict=True)
        if np.mean(best - column) <= np.std(best - column, ddof=1) / np.sqrt(len(values)) + 1e-12
    )
    assert nearest_within_one_standard_error(pd.DataFrame(values, columns=ALPHAS)) == expected


def chosen_of(target) -> list[float]:
    return [entry["chosen"] for entry in interpolations_of(target)]


def dictated(monkeypatch, alpha: float) -> None:
    """The cases always speak for ``alpha``: a tiny network in a few steps moves nowhere by itself."""
    monkeypatch.setattr("nnunet_active.training.held_out_choice.nearest_within_one_standard_error", lambda dice: alpha)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_the_final_checkpoint_is_as_far_from_the_source_as_the_cases_say(nnunet_folders, monkeypatch, alpha):
    target = make_target(nnunet_folders)
    start(target, **SETTINGS)
    dictated(monkeypatch, alpha)
    trainer = trainer_of(target)
    trainer.run_training()
    assert chosen_of(target) == [alpha, alpha]  # before the second query, and at the end
    trained = copy_weights(trainer.network)
    expected = interpolate(trainer.adaptation.source, trained, alpha)
    checkpoint = checkpoint_of(target)
    assert_equal_weights({name: checkpoint["network_weights"][name] for name in expected}, expected)
    assert checkpoint["nnunet_active"]["interpolation"] == alpha
    assert any(not torch.equal(trained[name], trainer.adaptation.source[name]) for name in trained)
    again = trainer_of(target, resume=True)
    assert again.adaptation.interpolation == alpha
    assert_equal_weights(copy_weights(again.network), trained)


def test_every_candidate_is_measured_on_the_held_out_cases_alone_and_the_source_network_only_once(nnunet_folders):
    target = make_target(nnunet_folders)
    start(target, **SETTINGS)
    trainer_of(target).run_training()
    rows = pd.read_csv(output_folder(target) / "comparison.csv", dtype={"case": str})
    assert set(rows["case"]) == set(campaign_of(target).val)
    assert set(rows["model"]) == {"source", "adapted", *(f"alpha {alpha:g}" for alpha in ALPHAS)}
    assert rows[rows["model"].isin(["source", "alpha 0"])]["network"].nunique() == 1
    ends = rows[rows["epoch"] == rows["epoch"].max()]
    (adapted,) = ends[ends["model"] == "adapted"]["network"].unique()
    (chosen,) = ends[ends["model"] == f"alpha {chosen_of(target)[-1]:g}"]["network"].unique()
    assert adapted == chosen


def test_the_choice_needs_no_comparison_with_the_source(nnunet_folders):
    target = make_target(nnunet_folders)
    start(target, epochs=2, fine_tuning={**recipe("held_out"), "compare": False})
    trainer_of(target).run_training()
    rows = pd.read_csv(output_folder(target) / "comparison.csv")
    assert set(rows["model"]) == {f"alpha {alpha:g}" for alpha in ALPHAS}


def test_pseudo_labels_are_made_by_the_network_that_was_chosen_for_them(nnunet_folders):
    target = make_target(nnunet_folders)
    everyone = {"confident_fraction": 1.0, "nearer_fraction": 1.0, "allow_empty": True, "labelled_fraction": 0.5}
    start(target, stride=2, epochs=4, pseudo_labels=everyone, **SETTINGS)
    trainer_of(target).run_training()
    lines = (output_folder(target) / "active_log.jsonl").read_text().splitlines()
    events = [(entry["epoch"], entry["event"]) for line in lines if (entry := json.loads(line))]
    chosen = [epoch for epoch, event in events if event == "interpolation"]
    assert chosen == [1, 2, 3, 4]  # pseudo-labels, query, pseudo-labels, end
    assert events.index((1, "interpolation")) < events.index((1, "pseudo_labels"))


def test_where_nobody_is_held_out_it_is_three_quarters_and_the_user_is_told(nnunet_folders, capsys):
    target = make_target(nnunet_folders)
    start(target, fold="all", epochs=2, **SETTINGS)
    trainer = trainer_of(target, fold="all")
    trainer.run_training()
    assert trainer.adaptation.interpolation == 0.75
    assert "0 labelled cases are held out and it takes 2; predictions are by weights 75%" in capsys.readouterr().out


def test_held_out_cases_without_any_class_say_nothing_and_the_user_is_told(nnunet_folders, monkeypatch, capsys):
    target = make_target(nnunet_folders)
    start(target, epochs=2, **SETTINGS)
    nothing = {"oedema": float("nan"), "core": float("nan")}
    monkeypatch.setattr("nnunet_active.training.source_comparison.compare", lambda *_: {"dice": nothing})
    trainer = trainer_of(target)
    trainer.run_training()
    assert trainer.adaptation.interpolation == 0.75 and not chosen_of(target)
    assert "0 of the held-out cases show any class of the target" in capsys.readouterr().out


def test_a_killed_run_chooses_as_one_that_was_not(tmp_path, monkeypatch):
    ends = []
    for kill in (None, 1, 2):
        target = fresh_target(tmp_path / str(kill), monkeypatch)
        start(target, **SETTINGS)
        run_with_kill(target, kill)
        ends.append((campaign_of(target).requested(), chosen_of(target)[-1], checkpoint_of(target)))
    for requested, chosen, checkpoint in ends[1:]:
        assert (requested, chosen) == ends[0][:2]
        assert_equal_weights(checkpoint["network_weights"], ends[0][2]["network_weights"])
        assert_equal_weights(
            *(one["nnunet_active"].get("trained_weights", one["network_weights"]) for one in (checkpoint, ends[0][2]))
        )


def test_a_held_out_label_that_is_the_accepted_prediction_does_not_judge(nnunet_folders):
    target = make_target(nnunet_folders)
    start(target, **SETTINGS)
    trainer = trainer_of(target)
    trainer.initialize()
    for case in trainer.session.campaign.val:
        trainer.session.campaign.record_label(case, {"changed_voxels": 0})
    trainer.run_training()
    assert chosen_of(target) == [] and trainer.adaptation.interpolation == 0.75
