from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_rounds import CONFIGURATION, trained
from tiny_target import NAME

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.rounds.between_rounds import select
from nnunet_active.rounds.next_step import next_step
from nnunet_active.rounds.round_table import expected_minutes
from nnunet_active.rounds.target_preparation import SelectOptions
from nnunet_active.rounds.time_budget import AnnotationTime, SliceMinutes
from nnunet_active.rounds.timed_slices import TimePlan, plan_time, worth
from nnunet_active.util.errors import CampaignError
from nnunet_active.util.log import silent
from nnunet_active.workspace import Workspace

MADE = {"labelled": 0, "unlabelled": 4}


def ask(target, minutes=None, n=None, dry_run=False, **more):
    options = SelectOptions(
        NAME,
        CONFIGURATION,
        model=target.model,
        strategy="random",
        settings={"unit": "slice", "per_case": 3},
        add_ignore_label=True,
        processes=1,
        minutes=minutes,
        n=n,
        **more,
    )
    return select(options, dry_run=dry_run, log=silent)


def test_where_opening_a_scan_costs_nothing_one_slice_of_each_is_best():
    assert plan_time(12, SliceMinutes(0, 1), [3] * 40) == TimePlan(12, 12)


def test_the_longer_opening_takes_the_more_slices_a_scan_are_asked_for():
    shares = [
        plan.slices / plan.scans for o in (0, 1, 4, 12) if (plan := plan_time(200, SliceMinutes(o, 1), [9] * 200))
    ]
    assert shares == sorted(shares) and shares[0] == 1 and shares[-1] > 5
    # the optimum of two-stage sampling
    assert shares[2] == pytest.approx((4 * 0.75 / 0.25) ** 0.5, abs=0.6)


def test_no_more_than_the_scans_hold_and_no_more_than_was_said():
    assert plan_time(1000, SliceMinutes(2, 1), [3, 1, 2]) == TimePlan(3, 6)
    assert plan_time(1000, SliceMinutes(2, 1), [3, 1, 2], most=4) == TimePlan(3, 4)
    assert plan_time(7, SliceMinutes(2, 1), [3] * 9, least=3) is None and plan_time(1, SliceMinutes(2, 1), [3]) is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 5), st.integers(1, 3), st.integers(1, 30))
def test_no_other_way_to_spend_the_time_is_worth_more(limits, opening, per_slice, available):
    limits = sorted(limits, reverse=True)
    time = SliceMinutes(opening, per_slice)
    best = 0.0
    for shares in itertools.product(*(range(limit + 1) for limit in limits)):
        if sum(time.minutes(share) for share in shares if share) <= available:
            best = max(best, sum(map(worth, shares)))
    plan = plan_time(available, time, limits)
    if plan is None:
        assert best == 0
        return
    shared = [0] * plan.scans
    for _ in range(max(limits)):
        for index in range(plan.scans):
            if sum(shared) < plan.slices and shared[index] < limits[index]:
                shared[index] += 1
    assert sum(shared) == plan.slices and sum(map(time.minutes, shared)) <= available
    assert sum(map(worth, shared)) == pytest.approx(best)


def test_the_time_of_the_expert_is_filled_with_slices_of_several_scans(target):
    result = ask(target, minutes=14.5, time=SliceMinutes(4, 1))
    made = Campaign.open(target.preprocessed, "0").rounds[0]
    counts = [len(one.slices) for one in made.slices.values()]
    assert counts == [3, 3] and list(result.query.scores["minutes"].dropna()) == [7.0, 7.0]
    assert result.query.selection["notes"][0] == "6 slices of 2 cases fill 14 of 14.5 minutes (expected)."
    said = "Labelling will take about 14 minutes: 4 for each of 2 cases, 1 for each of 6 slices."
    assert expected_minutes(result.query) == said
    assert Campaign.open(target.preprocessed, "0").budget_left() >= 0


def test_the_minutes_are_told_without_a_time_budget_too_and_in_the_worklist(target):
    ask(target, n=4)
    campaign = Campaign.open(target.preprocessed, "0")
    worklist = (campaign.handoff_folder(1) / "worklist.csv").read_text().splitlines()
    place = worklist[0].split(",").index("minutes")
    assert [float(line.split(",")[place]) for line in worklist[1:]] == [3.0] * 4
    assert campaign.rounds[0].selection()["slice_minutes"] == {"opening": 2.0, "per_slice": 1.0}


def test_a_number_of_slices_is_an_upper_limit_and_named_cases_are_opened_in_any_case(target):
    one = ask(target, minutes=100, n=5, dry_run=True).query
    assert sum(len(choice["slices"]) for choice in one.selection["slice_choice"].values()) == 5
    one = ask(target, minutes=1, must_include=("case_2", "case_1"), dry_run=True).query
    assert one.requested == ("case_2", "case_1")


def test_too_little_time_for_any_slice_asks_for_nothing(target):
    end = ask(target, minutes=2.5, dry_run=True)
    assert end.outcome == "empty"
    assert end.message == "No slice fits into 2.5 minutes: the first takes 3; give --time-budget more."


def test_where_every_slice_is_labelled_nothing_is_left_to_ask_for_and_next_says_so(target):
    result = ask(target, n=100)
    while result.outcome == "asked":
        campaign = Campaign.open(target.preprocessed, "0")
        with campaign.lock():
            campaign.mark_labelled(campaign.waiting())
        result = ask(target, n=100)
    campaign = Campaign.open(target.preprocessed, "0")
    assert result.outcome == "empty" and len(campaign.labelled()) == 4
    assert ask(target, minutes=60).message == "No unlabelled slice is left to ask for."
    trained(target, labelled=campaign.labelled(), campaign=campaign.begun)
    found = next_step(Workspace(NAME))
    assert found.kind == "done" and found.state["pool"] == 0, found


def test_minutes_of_whole_cases_and_of_slices_are_not_mixed_up(target):
    with pytest.raises(CampaignError, match="for slices it takes two"):
        ask(target, minutes=30, time=AnnotationTime())
    whole = SelectOptions(NAME, CONFIGURATION, model=target.model, n=1, processes=1, time=SliceMinutes())
    with pytest.raises(CampaignError, match="for whole cases it takes three"):
        select(whole, log=silent)
    assert not list((target.preprocessed / "active").glob("fold_*"))
