from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from tiny_campaign import begin
from tiny_rounds import mark_drawn

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_round import RoundContent
from nnunet_active.campaign.settings import Settings
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.campaign.status import campaign_status, format_status


def add_round(campaign: Campaign, epoch: int, picks: dict[str, str], components: dict[str, dict[str, float]]) -> None:
    """``picks``: case -> modality; ``components``: name -> case -> value."""
    table = pd.DataFrame({f"component_{name}": pd.Series(values) for name, values in components.items()})
    table["utility"] = np.arange(1.0, len(table) + 1)
    details = {
        "candidates": len(table),
        "dominant_modality": {case: {"name": name, "channel": 0} for case, name in picks.items()},
    }
    utilities = pd.DataFrame([table["utility"]])
    worklist = pd.DataFrame({"case": list(picks)})
    campaign.append_round(RoundContent(picks, table, utilities, worklist, {}, details), epoch)


POOL = pd.DataFrame({"utility": [1.0, 2.0]}, index=["more 1", "more 2"])
DETAILS = {"candidates": 2, "dominant_modality": {}}


@pytest.fixture
def campaign(tmp_path) -> Campaign:
    settings = Settings(strategy="mmacts", budget=3, stride=10, epochs=40)
    folder = tmp_path / "Dataset204_GliomaTarget"
    return begin(folder, settings=settings, initial=["start"], val=["v1", "v2"])


@pytest.fixture
def after_two_rounds(campaign) -> Campaign:
    uncertainty = {"001": 0.25, "b": 0.5, "c": 0.75}
    add_round(campaign, 0, {"b": "FLAIR"}, {"uncertainty": uncertainty, "density": {"b": 4.0, "c": 5.0}})
    campaign.mark_labelled(["b"])
    add_round(campaign, 10, {"001": "T1ce"}, {"uncertainty": {"001": 0.125, "c": 1.0}, "density": {"c": 2.0}})
    return campaign


def test_the_status_holds_plain_values_for_every_request(after_two_rounds):
    status = campaign_status(Campaign.open(after_two_rounds.dataset_folder, 0))
    assert json.loads(json.dumps(status, allow_nan=False)) == status
    assert status["cases"] == [
        {
            "round": 1,
            "epoch": 0,
            "made_by": "training",
            "case": "b",
            "labelled": True,
            "declined": False,
            "utility": 2.0,
            "drawn": False,
            "rank_of": 3,
            "components": {"uncertainty": 0.5, "density": 4.0},
            "open_first": "FLAIR",
        },
        {
            "round": 2,
            "epoch": 10,
            "made_by": "training",
            "case": "001",
            "labelled": False,
            "declined": False,
            "utility": 1.0,
            "drawn": False,
            "rank_of": 2,
            "components": {"uncertainty": 0.125},  # it has no density here
            "open_first": "T1ce",
        },
    ]
    del status["cases"]
    assert status == {
        "dataset": "Dataset204_GliomaTarget",
        "configuration": "3d_fullres",
        "plans": "nnUNetActivePlans",
        "fold": "0",
        "strategy": "mmacts",
        "oracle": "retrospective",
        "budget": 3,
        "rounds_done": 2,
        "rounds_planned": 3,
        "labelled_from_start": 1,
        "labelled": ["b", "start"],
        "waiting": ["001"],
        "declined": {},
        "held_out": ["v1", "v2"],
    }


def test_the_text_says_where_the_campaign_stands_and_why_each_case_was_chosen(after_two_rounds):
    lines = format_status(after_two_rounds).splitlines()
    assert lines[0] == (
        "Dataset204_GliomaTarget 3d_fullres fold 0 (nnUNetActivePlans): mmacts, oracle retrospective, round 2 of 3, budget 3"
    )
    assert lines[1] == "2 labelled (1 from the start), 1 waiting for a label, 2 held out"
    assert [line.split() for line in lines[3:]] == [
        ["round", "asked", "case", "label", "open", "first", "utility", "uncertainty", "density"],
        ["1", "epoch", "0", "b", "there", "FLAIR", "2", "0.5", "4"],
        ["2", "epoch", "10", "001", "waiting", "T1ce", "1", "0.125"],
    ]


def test_the_utility_of_a_draw_is_not_shown_since_that_would_be_chance(after_two_rounds):
    mark_drawn(after_two_rounds.rounds[0])
    rows = [line.split() for line in format_status(after_two_rounds).splitlines()[4:]]
    assert rows[0] == ["1", "epoch", "0", "b", "there", "FLAIR", "0.5", "4"]
    assert rows[1] == ["2", "epoch", "10", "001", "waiting", "T1ce", "0.125", "1"]
    mark_drawn(after_two_rounds.rounds[1])
    assert "utility" not in format_status(after_two_rounds)


def test_rounds_that_select_added_to_a_plan_are_counted_and_no_longer_told_as_a_plan(after_two_rounds):
    for number in (1, 2):
        content = RoundContent(
            [f"more {number}"], POOL, pd.DataFrame([POOL["utility"]]), pd.DataFrame({"case": ["more"]}), {}, DETAILS
        )
        after_two_rounds.append_round(content, made_by="select")
    status = campaign_status(after_two_rounds)
    assert (status["rounds_done"], status["rounds_planned"]) == (4, 4)
    assert ", 4 rounds, " in format_status(after_two_rounds).splitlines()[0]


def test_slices_are_shown_by_round_and_those_of_an_earlier_round_stay_labelled(tmp_path):
    how = {"unit": "slice", "query_size": 2, "budget": 9, "stride": 2, "epochs": 20}
    campaign = begin(tmp_path / "Dataset204_GliomaTarget", settings=Settings(**how))
    table = pd.DataFrame({"utility": [1.0]}, index=["a"])
    for slices in (2, 6), (4,):
        asked = {"a": SliceRequest("z", slices)}
        content = RoundContent(["a"], table, table.T, pd.DataFrame({"case": ["a"]}), {}, DETAILS, asked)
        campaign.append_round(content, made_by="select")
        if len(slices) == 2:
            campaign.mark_labelled(["a"])
    first, second = campaign_status(campaign)["cases"]
    assert first["slices"] == {"axis": "z", "slices": [2, 6]} and second["slices"] == {"axis": "z", "slices": [4]}
    rows = format_status(campaign).splitlines()[-2:]
    assert "slices 3, 7 along z" in rows[0] and "there" in rows[0]
    assert "slice 5 along z" in rows[1] and "waiting" in rows[1]
    campaign.decline(["a"], "moved")
    assert [(one["labelled"], one["declined"]) for one in campaign_status(campaign)["cases"]] == [
        (True, False),
        (False, True),
    ]


def test_before_the_first_query_the_text_says_so(campaign):
    status = campaign_status(campaign)
    assert status["cases"] == [] and status["rounds_done"] == 0
    assert format_status(campaign).endswith("No query has been made yet.")


def test_rounds_between_trainings_and_declined_cases_are_told_apart(after_two_rounds):
    after_two_rounds.decline(["001"], "moved")
    after_two_rounds.extend(1)
    details = {"candidates": 1, "dominant_modality": {"c": {"name": "T1", "channel": 0}}}
    table = pd.DataFrame({"utility": [1.0]}, index=["c"])
    utilities = pd.DataFrame([table["utility"]])
    content = RoundContent(["c"], table, utilities, pd.DataFrame({"case": ["c"]}), {}, details)
    after_two_rounds.append_round(content, made_by="select")
    lines = format_status(after_two_rounds).splitlines()
    assert lines[0].endswith("3 rounds, budget 4")
    assert lines[-2].split()[:5] == ["2", "epoch", "10", "001", "declined"]
    assert lines[-1].split()[:4] == ["3", "between", "c", "waiting"]
