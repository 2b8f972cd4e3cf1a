from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from tiny_campaign import begin

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_round import RoundContent
from nnunet_active.campaign.settings import Settings
from nnunet_active.rounds.explanation import NOTHING, explain_case
from nnunet_active.rounds.explanation_words import format_explanation
from nnunet_active.util.errors import MissingInput

POOL = pd.DataFrame(
    {
        "mean_entropy": [0.4, 0.3, 0.2, 0.1],
        "foreground_mm3": [10.0, 40.0, 20.0, np.nan],
        "component_difficulty": [0.4, 0.3, 0.2, 0.1],
        "component_cluster": [0.0, 1.0, 0.0, 1.0],
        "component_own_idea": [1.0, 4.0, 2.0, 3.0],
        "utility": [4.0, 3.0, 2.0, 1.0],
    },
    index=["a", "b", "c", "d"],
)


@pytest.fixture
def campaign(tmp_path) -> Campaign:
    folder, settings = tmp_path / "Dataset204_GliomaTarget", Settings(budget=2, query_size=2)
    campaign = begin(folder, settings=settings, initial=["start"], val=["held"])
    # after a was picked, b lost most of its utility, and c was taken in its place
    steps = pd.DataFrame([[4.0, 3.0, 2.0, 1.0], [np.nan, 0.5, 1.9, 1.0]], columns=list("abcd"))
    details = {
        "strategy": "assft",
        "candidates": 4,
        "dominant_modality": {
            "a": {"channel": 1, "name": "FLAIR", "dice": [0.2, 0.8], "decided": True},
            "c": {"channel": 0, "name": "T1", "dice": [0.0, 0.0], "decided": False},
        },
        "notes": ["The drift is zero."],
        "set_aside": {"broken": "broken could not be scored (NaN); it is left out of this query."},
    }
    content = RoundContent(["a", "c"], POOL, steps, pd.DataFrame({"case": ["a", "c"]}), {}, details)
    campaign.append_round(content, made_by="select")
    return campaign


def test_every_number_is_there_for_scripts(campaign):
    content = explain_case(campaign, "b")
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    (entry,) = content["rounds"]
    assert (entry["position"], entry["utility"], entry["utility_rank"], entry["candidates"]) == (None, 3.0, 2, 4)
    assert entry["steps"] == [
        {"step": 1, "utility": 3.0, "rank": 2, "of": 4, "picked": "a", "utility_of_pick": 4.0},
        {"step": 2, "utility": 0.5, "rank": 3, "of": 3, "picked": "c", "utility_of_pick": 1.9},
    ]
    difficulty = entry["factors"][0]
    assert (difficulty["name"], difficulty["rank"], difficulty["of"]) == ("difficulty", 2, 4)
    assert difficulty["chosen_mean"] == pytest.approx(0.3)  # of a and c


def test_a_chosen_case_is_explained_in_words(campaign):
    text = format_explanation(explain_case(campaign, "a"))
    assert "a was asked for in round 1; its label has not come back yet." in text
    assert "a was chosen (choice 1 of 2): utility 4, the highest of 4." in text
    assert "Most for it: uncertainty within the predicted foreground" in text
    assert (
        "Open FLAIR first: this channel alone leads the network closest to what it predicts from all channels (Dice 0.80)."
        in text
    )
    assert "Note: The drift is zero." in text


def test_where_there_is_one_channel_nobody_is_told_which_to_open_first(tmp_path):
    campaign = begin(tmp_path / "Dataset204_GliomaTarget", settings=Settings(budget=2, query_size=2))
    details = {
        "strategy": "mmacts",
        "candidates": 4,
        "dominant_modality": {"a": {"channel": 0, "name": "MRI", "dice": [1.0], "decided": True}},
        "notes": [],
    }
    steps = pd.DataFrame([[4.0, 3.0, 2.0, 1.0]], columns=POOL.index)
    content = RoundContent(["a"], POOL, steps, pd.DataFrame({"case": ["a"]}), {}, details)
    campaign.append_round(content, made_by="select")
    assert "Open " not in format_explanation(explain_case(campaign, "a"))


def of_one_round(
    tmp_path, table: pd.DataFrame, steps: list[list[float]], picks: list[str], more=NOTHING, **settings
) -> Campaign:
    campaign = begin(tmp_path / "Dataset204_GliomaTarget", settings=Settings(budget=2, query_size=2, **settings))
    details = {"strategy": "foreground_random", "candidates": len(table), "dominant_modality": {}, "notes": [], **more}
    steps = pd.DataFrame(steps, columns=table.index)
    content = RoundContent(picks, table, steps, pd.DataFrame({"case": picks}), {}, details)
    campaign.append_round(content, made_by="select")
    return campaign


@pytest.mark.parametrize("more", [{}, {"drawn": True}, {"drawn": True, "must_include": ["a"]}])
def test_where_chance_decides_a_lower_draw_is_not_called_covered(tmp_path, more):
    table, known = POOL[["utility"]], "must_include" not in more
    table = table.assign(component_probability=0.25) if known else table
    campaign = of_one_round(tmp_path, table, [[4.0, 3.0, 2.0, 1.0], [np.nan, 0.5, 1.9, 1.0]], ["a", "c"], more)
    text = format_explanation(explain_case(campaign, "b"))
    assert "b was not chosen.\n  Chance decides: the cases are drawn." in text
    assert "utility" not in text.split("What the network said")[0] and "covered" not in text
    assert ("probability 0.25" in text and "drawn at its step" in text) is known


def test_a_scan_of_whose_patient_another_one_was_the_candidate_is_explained(tmp_path):
    campaign = of_one_round(
        tmp_path, POOL[["utility"]], [[4.0, 3.0, 2.0, 1.0]], ["a"], groups={"table": dict.fromkeys("bx", "p")}
    )
    assert (
        "x has not been a candidate yet: a round asks for one scan of a patient, and b is of the same."
        in format_explanation(explain_case(campaign, "x", "xy"))
    )
    assert "y has not been in any query yet" in format_explanation(explain_case(campaign, "y", "xy"))


def test_a_case_that_lost_its_chance_to_a_similar_one_is_explained(campaign):
    text = format_explanation(explain_case(campaign, "b"))
    assert "b was not chosen: utility 3, rank 2 of 4." in text
    assert "After a was chosen its utility fell from 3 to 0.5" in text
    assert "At the last choice it had 0.5; c, which was taken, had 1.9." in text


def test_what_is_not_known_is_said_and_a_cluster_has_no_rank(campaign):
    text = format_explanation(explain_case(campaign, "d"))
    assert "foreground_mm3 not known" in text
    cluster = next(line for line in text.splitlines() if line.strip().startswith("cluster"))
    assert "rank" not in cluster and "highest" not in cluster
    assert "own_idea 3 (rank 2 of 4)" in text  # a factor of somebody else's strategy has no words


def test_a_channel_order_that_nothing_decided_is_said(campaign):
    assert "no channel alone leads the network" in format_explanation(explain_case(campaign, "c"))


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("start", "start had a label from the start."),
        ("held", "held is held out for validation and is never asked for."),
        ("d", "d is in the pool and has not been asked for."),
        ("new", "new has not been in any query yet"),
        ("broken", "could not be scored (NaN)"),
    ],
)
def test_every_state_of_a_case_has_its_sentence(campaign, case, said):
    assert said in format_explanation(explain_case(campaign, case, ["new", "broken"]))


def test_declined_excluded_and_unasked_cases_have_theirs(campaign):
    campaign.decline(["c"], "too dark")
    campaign.exclude(["d"])
    campaign.mark_labelled(["a", "extra"])
    status = {case: explain_case(campaign, case)["status"] for case in ("a", "c", "d", "extra")}
    assert status["a"] == "a was asked for in round 1; its label is there."
    assert status["c"] == "c was asked for in round 1 and declined (too dark); it is not asked for again."
    assert status["d"] == "d is excluded and is never asked for."
    assert status["extra"] == "extra was labelled without being asked for."


def test_a_case_that_was_declined_in_a_campaign_before_says_so(tmp_path):
    campaign = begin(tmp_path / "Dataset204_GliomaTarget")
    content = {**campaign.to_json(), "declined": {"z": "moved", "y": ""}}
    (campaign.folder / "campaign.json").write_text(json.dumps(content))
    campaign = Campaign.open(tmp_path / "Dataset204_GliomaTarget", 0)
    said = explain_case(campaign, "z", ["z", "y"])["status"]
    assert said == "z was declined before this campaign began (moved), and is not asked for."
    assert "began, and is not" in explain_case(campaign, "y", ["z", "y"])["status"]


def test_what_the_expert_changed_is_shown(campaign):
    campaign.record_label("a", {"time": "2026-01-01T00:00:00", "dice": {"tumour": 0.75, "core": None}})
    assert "agrees with the prediction to Dice tumour 0.75." in format_explanation(explain_case(campaign, "a"))


def test_a_case_that_is_not_there_is_an_error_with_similar_names(campaign):
    with pytest.raises(MissingInput, match=r"has no case star; did you mean start\?"):
        explain_case(campaign, "star")
    with pytest.raises(MissingInput, match="nnunet_active status"):
        explain_case(campaign, "zzzzzzzz")


def test_a_factor_against_which_the_utility_runs_speaks_against_a_case(tmp_path, campaign):
    pool = POOL.drop(columns=["component_cluster", "component_own_idea"]).assign(component_size=[1.0, 2.0, 3.0, 4.0])
    details = {"strategy": "x", "candidates": 4, "notes": []}
    utilities = pd.DataFrame([pool["utility"]])
    content = RoundContent(["b"], pool, utilities, pd.DataFrame({"case": ["b"]}), {}, details)
    campaign.append_round(content, made_by="select")
    last = explain_case(campaign, "d")["rounds"][-1]
    assert last["for_and_against"] == {"for": None, "against": "difficulty"}
    first = explain_case(campaign, "a")["rounds"][-1]["for_and_against"]
    assert first["for"] in ("difficulty", "size") and first["against"] is None


def test_a_factor_that_hardly_moves_the_utility_is_not_named_as_the_one_that_decided(campaign):
    cases = list("uvwxyz")
    pool = pd.DataFrame(
        {
            "component_u": [6.0, 5.0, 4.0, 3.0, 2.0, 1.0],
            "component_a": [4.0, 6.0, 1.0, 5.0, 3.0, 2.0],
            "utility": [6.0, 5.0, 4.0, 3.0, 2.0, 1.0],
        },
        index=cases,
    )
    content = RoundContent(
        ["u"],
        pool,
        pd.DataFrame([pool["utility"]]),
        pd.DataFrame({"case": ["u"]}),
        {},
        {"strategy": "x", "candidates": 6},
    )
    campaign.append_round(content, made_by="select")
    assert explain_case(campaign, "v")["rounds"][-1]["for_and_against"]["for"] == "u"  # in a it is the highest of all
