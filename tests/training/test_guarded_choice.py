"""The gate that labels open: the rule against its formula, and whole trainings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_target import NAME, PLANS, make_target
from tiny_training import (
    SHORT,
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

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_start import draft_campaign
from nnunet_active.campaign.fine_tuning import MANY_MIXED, recipe
from nnunet_active.campaign.place import Place
from nnunet_active.campaign.settings import Settings
from nnunet_active.training.case_weights import weights_of
from nnunet_active.training.guarded_choice import (
    EARNED,
    FLOOR,
    FLOOR_OF_MANY,
    HARM,
    MANY,
    MARGIN,
    OPEN,
    WIDE_OPEN,
    came_one_by_one,
    counting_evidence,
    floor_of,
    gate,
    may_go_far,
    shrunk_gains,
)
from nnunet_active.training.weights import copy_weights, interpolate

ALPHAS = (0.0, FLOOR, FLOOR_OF_MANY, OPEN)
SETTINGS = {"fine_tuning": recipe("guarded")}


def table(*rows: list[float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=ALPHAS, dtype=float)


def test_without_any_case_the_gate_stays_at_the_floor():
    assert gate(table(), 1) == gate(table(), MANY - 1) == FLOOR


def test_cross_fit_cases_do_not_count_where_three_others_judge():
    others, left_out = (pd.DataFrame({0.0: [0.5] * n}, index=[f"{n}_{i}" for i in range(n)]) for n in (3, 2))
    kinds = {"held_out": others[:1], "prequential": others[1:], "cross_fit": left_out}
    assert [len(table) for table in counting_evidence(kinds).values()] == [1, 2, 0]
    assert counting_evidence({**kinds, "held_out": others[:0]})["cross_fit"] is left_out


@pytest.mark.parametrize(
    ("held_out", "prequential", "cross_fit", "labelled", "one_by_one"),
    [
        (0, 0, 0, 3, False),
        (0, 0, 3, 3, False),  # all at once
        (0, 1, 0, 2, True),
        (0, 2, 1, 3, True),
        (0, 4, 0, 5, True),  # the first network was trained on one
        (0, 3, 0, 6, False),  # two rounds of three
        (0, 2, 2, 4, True),
        (0, 1, 3, 4, True),  # a fourth one after three
        (2, 0, 3, 3, True),
        (3, 0, 0, 2, True),
        (3, 0, 0, 3, False),
    ],
)
def test_cases_came_one_by_one_where_few_judge_or_networks_of_few(
    held_out, prequential, cross_fit, labelled, one_by_one
):
    numbers = {"held_out": held_out, "prequential": prequential, "cross_fit": cross_fit}
    kinds = {kind: table(*[[0.5] * 4] * n) for kind, n in numbers.items()}
    assert came_one_by_one(kinds, labelled) is one_by_one


def test_many_labelled_cases_raise_the_floor():
    assert gate(table(), MANY) == FLOOR_OF_MANY
    assert gate(table(*[[0.5, 0.52, 0.53, 0.54]] * 9), 9) == FLOOR_OF_MANY


@pytest.mark.parametrize("one_by_one", [True, False])
def test_two_cases_raise_the_floor_where_unlabelled_ones_are_learned_from_however_they_came(one_by_one):
    few, many = MANY_MIXED - 1, MANY_MIXED
    assert gate(table(), few, None, one_by_one, mixed=True) == FLOOR
    assert gate(table([0.8, 0.81, 0.81, 0.81]), few, None, one_by_one, mixed=True) == FLOOR
    assert gate(table(), many, None, one_by_one, mixed=True) == gate(table(), MANY, None, one_by_one, True) == OPEN
    harmed = table(*[[0.8, 0.7, 0.7, 0.6]] * many)
    assert gate(harmed, many, None, one_by_one, mixed=True) == FLOOR_OF_MANY
    assert gate(harmed, many, None, one_by_one) == 0


@pytest.mark.parametrize("one_by_one", [True, False])
def test_where_unlabelled_cases_are_learned_from_a_large_gain_opens_the_gate_to_the_trained_weights(one_by_one):
    for open_, alpha in ((2 * MARGIN - 0.001, OPEN), (2 * MARGIN + 0.001, WIDE_OPEN)):
        assert gate(table([0.5, 0.5, 0.5, 0.5 + open_]), MANY_MIXED, None, one_by_one, mixed=True) == alpha
    assert gate(table([0.5, 0.6, 0.7, 0.8]), MANY_MIXED - 1, None, one_by_one, mixed=True) == OPEN


@pytest.mark.parametrize(
    ("mixed", "strategy", "far"),
    [(True, "strata", True), (True, "random", True), (True, "mmacts", False), (False, "random", False)],
)
def test_unlabelled_cases_let_the_gate_open_where_the_labelled_ones_are_drawn_from_them(mixed, strategy, far):
    assert may_go_far(mixed, strategy) is far


def test_a_gain_below_the_margin_leaves_the_gate_closed():
    assert gate(table(*[[0.5, 0.53, 0.53, 0.54]] * 5), 5) == FLOOR


def test_one_case_with_a_large_gain_has_to_make_up_for_one_that_shows_none():
    for open_, alpha in ((2 * MARGIN - 0.001, FLOOR), (2 * MARGIN + 0.001, OPEN)):
        assert gate(table([0.5, 0.61, 0.5, 0.5 + open_]), 2) == alpha
        assert gate(table([0.5, 0.5, 0.5, 0.5 + open_]), 2, one_by_one=False) == alpha


@pytest.mark.parametrize(
    ("labelled", "one_by_one", "lower"), [(2, False, 0.0), (MANY, False, FLOOR), (MANY, True, FLOOR)]
)
def test_where_even_the_floor_harms_the_weights_go_a_step_down(labelled, one_by_one, lower):
    harm = 0.8 - 2 * HARM
    assert gate(table([0.8, harm - 0.001, harm - 0.001, 0.6]), labelled, None, one_by_one) == lower
    assert gate(table([0.8, harm + 0.001, harm + 0.001, 0.6]), labelled, None, one_by_one) == floor_of(labelled)


def test_where_cases_came_one_by_one_few_of_them_have_to_gain_by_the_first_steps_as_well():
    for gain, at, alpha in (
        (2 * EARNED - 0.001, 0.9, 0.0),
        (2 * EARNED + 0.001, 0.9, FLOOR),
        (2 * MARGIN - 0.001, 0.9, FLOOR),
        (2 * MARGIN + 0.001, 0.9, OPEN),
        (2 * MARGIN + 0.001, 0.5, FLOOR),
    ):
        assert gate(table([0.5, 0.5 + gain, 0.5, at]), MANY - 1) == alpha
    assert gate(table([0.5, 0.5, 0.5, 0.9]), MANY) == gate(table([0.5, 0.5, 0.5, 0.9]), 2, one_by_one=False) == OPEN


@given(
    st.lists(st.lists(st.integers(0, 100).map(lambda n: n / 100), min_size=4, max_size=4), max_size=9),
    st.integers(1, 2 * MANY),
    st.booleans(),
    st.booleans(),
)
def test_the_rule_is_that_of_the_formula(rows, labelled, one_by_one, mixed):
    values = np.array(rows, dtype=float).reshape(-1, 4)
    mean = {a: sum(values[:, k] - values[:, 0]) / (len(values) + 1) for k, a in enumerate(ALPHAS)}
    found = shrunk_gains(table(*rows))
    assert np.allclose([found[a] for a in ALPHAS], [mean[a] for a in ALPHAS])
    chosen = gate(table(*rows), labelled, None, one_by_one, mixed)
    floor, lower = (FLOOR_OF_MANY, FLOOR) if labelled >= MANY else (FLOOR, 0.0)
    if mixed and labelled >= MANY_MIXED:
        floor, lower = OPEN, FLOOR_OF_MANY
    strict = rows and labelled < MANY and one_by_one and not mixed
    least, opens = (EARNED, min(mean[OPEN], mean[FLOOR])) if strict else (-HARM, mean[OPEN])
    opened = WIDE_OPEN if floor == OPEN else OPEN
    assert chosen in (lower, floor, opened)
    assert (chosen == opened) == (opens > MARGIN) or abs(opens - MARGIN) < 1e-9
    assert chosen == opened or (chosen == lower) == (mean[floor] < least) or abs(mean[floor] - least) < 1e-9


def test_a_case_that_stands_for_more_of_the_pool_counts_for_more():
    dice = table([0.5, 0.5, 0.5, 0.8], [0.5, 0.5, 0.5, 0.4])
    for weights, mean in (([1.5, 0.5], (1.5 * 0.3 - 0.5 * 0.1) / 3), ([0.5, 1.5], (0.5 * 0.3 - 1.5 * 0.1) / 3)):
        assert shrunk_gains(dice, pd.Series(weights))[OPEN] == pytest.approx(mean)
        assert (gate(dice, 2, pd.Series(weights), one_by_one=False) == OPEN) == (mean > MARGIN)


def dictated(monkeypatch, alpha: float) -> None:
    """The cases always speak for ``alpha``: a tiny network in a few steps moves nowhere by itself."""
    monkeypatch.setattr("nnunet_active.training.guarded_choice.gate", lambda *given: alpha)


def test_new_cases_are_measured_before_they_are_trained_on_by_every_alpha(nnunet_folders):
    target = make_target(nnunet_folders)
    start(target, fold="all", **SETTINGS)
    trainer_of(target, fold="all").run_training()
    first, second = (one.requested for one in campaign_of(target, "all").rounds)
    rows = pd.read_csv(output_folder(target, fold="all") / "comparison.csv", dtype={"case": str})
    alphas = rows[rows["model"].str.startswith("alpha")]
    assert set(alphas["case"]) == set(second) and not set(first) & set(second)
    assert set(alphas["model"]) == {f"alpha {a:g}" for a in ALPHAS[1:]}
    assert (alphas["labelled"] == len(first)).all()
    before, end = interpolations_of(target, "all")
    assert (before["cases"], before["chosen"]) == (0, FLOOR)  # as the second query is due, no label judges yet
    assert end["cases"] == len(second)


def test_labels_that_came_in_between_two_trainings_judge_the_network_of_the_first(nnunet_folders, monkeypatch):
    target = make_target(nnunet_folders, labelled=2, unlabelled=2)
    alone = {"fine_tuning": {**recipe("guarded"), "cross_fit": False}}
    start(target, fold="all", budget=1, oracle="folder", strategy="random", stride=9, epochs=10, **alone)
    monkeypatch.setattr(Campaign, "query_due", lambda campaign, epoch: False)  # a training on what is labelled
    for case, seed in (("", 0), ("case_3", 3)):
        if case:
            target.label(case, seed)
            target.preprocess()
        trainer = trainer_of(target, fold="all")
        trainer.num_epochs = 1
        trainer.run_training()
    assert [entry["cases"] for entry in interpolations_of(target, "all")] == [0, 1]
    rows = pd.read_csv(output_folder(target, fold="all") / "comparison.csv", dtype={"case": str})
    alphas = rows[rows["model"].str.startswith("alpha")]
    assert set(alphas["case"]) == {"case_3"} and set(alphas["labelled"]) == {2}
    assert alphas["network"].nunique() == len(ALPHAS) - 1


def test_held_out_cases_judge_too(nnunet_folders):
    target = make_target(nnunet_folders)
    start(target, **SETTINGS)
    trainer_of(target).run_training()
    val = set(campaign_of(target).val)
    assert val and [entry["cases"] for entry in interpolations_of(target)] == [len(val), len(val) + 1]


def test_held_out_cases_judge_once_where_a_round_was_made_after_a_killed_run_had_measured_them(nnunet_folders):
    target = make_target(nnunet_folders)
    start(target, **SETTINGS)
    trainer = trainer_of(target)
    trainer.run_training()
    rows, epoch = trainer.comparison.table, trainer.num_epochs
    found = trainer.choice.evidence(epoch)["held_out"]
    of_candidates = (rows["kind"] == "held_out") & (rows["model"] != "source")
    fewer_rounds = rows[of_candidates].assign(round=lambda table: table["round"] - 1)
    trainer.comparison.table = pd.concat([fewer_rounds, rows], ignore_index=True)
    assert len(found)
    pd.testing.assert_frame_equal(trainer.choice.evidence(epoch)["held_out"], found)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.75])
def test_the_final_checkpoint_is_as_far_from_the_source_as_the_gate_says(nnunet_folders, monkeypatch, alpha):
    target = make_target(nnunet_folders)
    start(target, **SETTINGS)
    dictated(monkeypatch, alpha)
    trainer = trainer_of(target)
    trainer.run_training()
    expected = interpolate(trainer.adaptation.source, copy_weights(trainer.network), alpha)
    checkpoint = checkpoint_of(target)
    assert_equal_weights({name: checkpoint["network_weights"][name] for name in expected}, expected)
    assert checkpoint["nnunet_active"]["interpolation"] == alpha


def test_a_killed_run_opens_the_gate_as_one_that_was_not(tmp_path, monkeypatch):
    ends = []
    for kill in (None, 1, 2):
        target = fresh_target(tmp_path / str(kill), monkeypatch)
        start(target, **SETTINGS)
        run_with_kill(target, kill)
        last = interpolations_of(target)[-1]
        ends.append((campaign_of(target).requested(), last["chosen"], last["cases"], last["gains"]))
        weights = checkpoint_of(target)["network_weights"]
        if kill is None:
            expected = weights
        assert_equal_weights(weights, expected)
    assert ends[1:] == ends[:1] * 2


def test_the_user_is_told_that_the_gate_is_closed_and_why_it_opens(nnunet_folders, capsys):
    target = make_target(nnunet_folders)
    start(target, fold="all", **SETTINGS)
    trainer_of(target, fold="all").run_training()
    said = capsys.readouterr().out
    assert "The gate is closed: the weights that predict stay 25% of the way" in said
    assert "Gate: the network knows every labelled case. From here on, alpha is 0.25." in said
    assert "WARNING: cases that mmacts asks for may not stand for the pool" in said
    assert "Gate: mean gain in Dice on 1 case that the network had not seen" in said


def test_cases_that_strata_drew_count_by_the_probability_that_its_round_recorded(nnunet_folders, capsys):
    target = make_target(nnunet_folders, labelled=0, unlabelled=7)
    start(target, fold="all", strategy="strata", budget=3, query_size=3, one_off=True, oracle="folder", **SETTINGS)
    for case in range(7):
        target.label(f"case_{case}", case)
    trainer_of(target, fold="all").run_training()
    (made,) = campaign_of(target, "all").rounds
    scores = made.scores().loc[list(made.requested)]
    expected = weights_of(scores["component_cluster"].nunique() / 7 / scores["component_probability"])
    (end,) = interpolations_of(target, "all")
    assert {row["case"]: row["weight"] for row in end["by_case"]} == pytest.approx(expected.to_dict())
    dice = pd.DataFrame(end["by_case"]).set_index("case")
    gains = ((dice["0.75"] - dice["0"]) * dice["weight"]).sum() / (dice["weight"].sum() + 1)
    assert end["gains"]["0.75"] == pytest.approx(gains)
    said = capsys.readouterr().out
    assert "strata draws cases from the pool and records each probability" in said
    assert "may not stand for the pool" not in said
    assert ("weighted by how they were drawn" in said) == (expected.nunique() > 1)


def test_a_held_out_label_that_is_the_accepted_prediction_does_not_judge(nnunet_folders):
    target = make_target(nnunet_folders)
    start(target, **SETTINGS)
    trainer = trainer_of(target)
    trainer.initialize()
    for case in trainer.session.campaign.val:
        trainer.session.campaign.record_label(case, {"changed_voxels": 0})
    trainer.run_training()
    assert [entry["cases"] for entry in interpolations_of(target)] == [0, 1]  # a new label alone


def test_what_an_earlier_campaign_with_another_source_measured_opens_no_gate(nnunet_folders):
    target = make_target(nnunet_folders, labelled=3, unlabelled=3)
    settings = Settings(**{**SHORT, "strategy": "random", "epochs": 9, "stride": 5, **SETTINGS})

    def begun(restart: bool):
        draft_campaign(Place.of(NAME, target.configuration, PLANS, "all"), settings, "folder").begin(restart)
        trainer = trainer_of(target, fold="all")
        trainer.initialize()
        trainer.session.begin(0)
        return trainer

    first = begun(False)
    first.comparison.take_over(first.session.labelled())
    first.choice.measure(5, ["case_0", "case_1"], "prequential")
    first.session.end()
    # a training that goes on, or the next one of the same campaign
    again = trainer_of(target, fold="all")
    again.initialize()
    again.comparison.take_over(again.session.labelled())
    assert list(again.choice.evidence(9)["prequential"].index) == ["case_0", "case_1"]
    assert again.choice.judged_without_cross_fit() == {"case_0", "case_1"}
    second = begun(True)  # the same source
    assert second.choice.evidence(9)["prequential"].empty and second.choice.judged_without_cross_fit() == set()
    second.comparison.take_over(second.session.labelled())
    second.choice.measure(5, ["case_0"], "prequential")
    second.session.end()
    third = trainer_of(target, fold="all")
    third.initialize()
    with torch.no_grad():
        for tensor in third.adaptation.source.values():
            tensor.add_(1)
    third._compare()  # as with another source network
    assert third.choice.evidence(9)["prequential"].empty and third.choice.judged_without_cross_fit() == set()
