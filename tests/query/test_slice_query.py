from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tiny_source
import torch
from tiny_target import NAME, PLANS, SHAPE, make_target

from nnunet_active.campaign.campaign_round import RoundContent
from nnunet_active.campaign.campaign_start import start_campaign
from nnunet_active.campaign.place import Place
from nnunet_active.campaign.settings import Settings
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.data.ignore_label import declare_ignore_label
from nnunet_active.nnunet.inference import SlidingWindow
from nnunet_active.query.pool_building import open_cache
from nnunet_active.query.pool_scoring import score_cases
from nnunet_active.query.question import Question
from nnunet_active.query.selector import propose
from nnunet_active.query.slice_query import SliceQuery
from nnunet_active.util.errors import ActiveError
from nnunet_active.util.log import silent
from nnunet_active.workspace import Workspace

ALL = [f"case_{i}" for i in range(4)]


@pytest.fixture
def setting(nnunet_folders):
    target = make_target(nnunet_folders, labelled=4)
    declare_ignore_label(target.raw, target.preprocessed)
    source = tiny_source.source_model()
    network = tiny_source.random_network(source.plans, "3d_fullres", source.dataset_json)
    return target, SlidingWindow(network, source.plans, "3d_fullres", source.dataset_json, torch.device("cpu"))


def start(**more):
    how = {"unit": "slice", "budget": 20, "query_size": 4, "per_case": 3, "epochs": 900, **more}
    return start_campaign(Place.of(NAME, "3d_fullres", PLANS, "all"), Settings(**how), log=silent)


def ask(campaign, requests):
    picks = list(requests)
    table = pd.DataFrame({"x": 1.0}, index=picks)
    utilities = pd.DataFrame(np.ones((1, len(picks))), columns=picks)
    campaign.append_round(RoundContent(picks, table, utilities, table, slices=requests))


def test_the_slices_come_from_the_pass_that_scored_the_scan(setting, monkeypatch):
    target, window = setting
    campaign = start()
    cache = open_cache(campaign)
    score_cases(window, target.store, ["case_0", "case_1"], cache=cache)
    monkeypatch.setattr(SlidingWindow, "stream", lambda *_, **__: pytest.fail("a second pass was made"))
    choice = SliceQuery(campaign, target.store).choose(["case_1", "case_0"], 5, window, cache, [0, 1])
    assert list(choice.requests) == ["case_1", "case_0"]
    assert [len(one.slices) for one in choice.requests.values()] == [3, 2]
    assert {one.axis for one in choice.requests.values()} == {"z"}


def test_a_scan_that_was_not_scored_is_passed_through_the_network_once(setting, monkeypatch):
    target, window = setting
    campaign, passes = start(), []
    real = SlidingWindow.stream
    monkeypatch.setattr(SlidingWindow, "stream", lambda *what, **how: passes.append(1) or real(*what, **how))
    query = SliceQuery(campaign, target.store)
    first = query.choose(["case_0"], 2, window, open_cache(campaign), [0, 1])
    assert query.choose(["case_0"], 2, window, open_cache(campaign), [0, 1]) == first and len(passes) == 1


def test_no_slice_is_asked_for_twice_and_the_axis_stays(setting):
    target, window = setting
    campaign = start()
    ask(campaign, {"case_0": SliceRequest("x", (4, 9))})
    campaign.mark_labelled(["case_0"])
    query = SliceQuery(campaign, target.store)
    assert query.open_slices("case_0") == SHAPE[2] - 2 and query.open_slices("case_1") == SHAPE[0]
    found = query.choose(["case_0"], 3, window, open_cache(campaign), [0, 2]).requests["case_0"]
    assert found.axis == "x" and not {4, 9} & set(found.slices)


def test_all_scans_are_candidates_where_there_are_slices_for_all_else_fresh_ones_come_first(setting):
    target, _ = setting
    campaign, cases = start(), [f"case_{i}" for i in range(4)]
    ask(campaign, {"case_0": SliceRequest("z", (4,))})
    campaign.mark_labelled(["case_0"])
    query = SliceQuery(campaign, target.store)
    assert query.candidates(cases, 4) == (cases, 4, tuple(cases[1:]))
    assert query.candidates(cases, 3) == (cases[1:], 1, ())


@pytest.mark.parametrize("strategy", ["coreset", "entropy", "random"])
def test_where_fresh_scans_are_too_few_they_come_first_and_the_begun_ones_count_as_labelled(setting, strategy):
    _, window = setting
    campaign = start(strategy=strategy, per_case=1)
    for case in ("case_0", "case_1"):
        ask(campaign, {case: SliceRequest("z", (4,))})
        campaign.mark_labelled([case])
    asked = [propose(Workspace.of(campaign), window, ALL, Question(size=size), log=silent) for size in (2, 3, 4)]
    assert all(sorted(one.picks[:2]) == ["case_2", "case_3"] for one in asked)
    assert [one.units for one in asked] == [2, 3, 4] and sorted(asked[2].picks) == ALL
    assert not any("medoid" in note for one in asked for note in one.details["notes"])
    utilities = asked[1].selection.utilities.iloc
    assert utilities[0][["case_0", "case_1"]].isna().all() and utilities[2][["case_0", "case_1"]].notna().all()
    if strategy == "random":  # one of two, the other one, and one of two again
        assert asked[1].selection.components["probability"][list(asked[1].picks)].tolist() == [0.5, 1, 0.5]


def test_a_scan_whose_slices_are_all_asked_for_cannot_be_included(setting):
    _, window = setting
    campaign = start(budget=60, axis="z")
    ask(campaign, {"case_0": SliceRequest("z", tuple(range(SHAPE[0])))})
    campaign.mark_labelled(["case_0"])
    question = Question(size=4, must_include=("case_0",))
    with pytest.raises(ActiveError, match="case_0 cannot be included: every slice is labelled or was asked for"):
        propose(Workspace.of(campaign), window, campaign.pool(ALL), question, log=silent)


def test_a_scan_that_cannot_be_read_is_replaced_where_the_strategy_needs_no_scores(setting):
    target, window = setting
    campaign, said = start(strategy="random", per_case=1), []
    before = propose(Workspace.of(campaign), window, ALL, Question(size=2), log=silent)
    target.store.image_file(before.picks[0]).write_bytes(b"damaged")
    found = propose(Workspace.of(campaign), window, ALL, Question(size=2), log=said.append)
    assert before.picks[0] not in found.picks and len(found.picks) == 2 and set(found.slices) == set(found.picks)
    assert list(found.details["set_aside"]) == [before.picks[0]] == [line.split()[1] for line in said]


def test_slices_are_asked_of_patients_without_a_label_first(setting):
    _, window = setting
    patients = {"case_0": "p", "case_1": "p", "case_2": "q", "case_3": "r"}
    campaign = start(strategy="random", groups={"table": patients}, per_case=1)
    ask(campaign, {"case_0": SliceRequest("z", (4,))})
    campaign.mark_labelled(["case_0"])
    workspace = Workspace.of(campaign)
    two = propose(workspace, window, list(patients), Question(size=2), log=silent)
    assert sorted(two.picks) == ["case_2", "case_3"] and two.units == 2
    everyone = propose(workspace, window, list(patients), Question(size=4), log=silent)
    assert sorted(everyone.picks[:2]) == ["case_2", "case_3"] and sorted(everyone.picks) == list(patients)


def test_a_scan_without_open_slices_is_no_candidate(setting):
    target, _ = setting
    campaign = start(budget=60, axis="z")
    ask(campaign, {"case_0": SliceRequest("z", tuple(range(SHAPE[0])))})
    campaign.mark_labelled(["case_0"])
    query = SliceQuery(campaign, target.store)
    assert query.open_slices("case_0") == 0
    assert query.candidates(["case_0", "case_1"], 9) == (["case_1"], 1, ())


def test_an_untrained_head_asks_for_slices_spread_over_the_whole_scan(setting):
    target, window = setting
    campaign = start(slices="centre")
    choice = SliceQuery(campaign, target.store).choose(
        ["case_0"], 2, window, open_cache(campaign), [0, 1], trusted=False
    )
    assert choice.requests["case_0"].slices == (3, 11) and choice.facts["case_0"]["extent"] is None


@pytest.mark.parametrize("rule", ["spread", "random"])
def test_the_seed_decides_and_each_scan_draws_for_itself(setting, rule):
    target, window = setting
    campaign = start(slices=rule)
    query, cache = SliceQuery(campaign, target.store), open_cache(campaign)
    both = query.choose(["case_0", "case_1"], 6, window, cache, [3, 1])
    alone = query.choose(["case_1"], 3, window, cache, [3, 1])
    assert both.requests["case_1"] == alone.requests["case_1"]
    facts = both.facts["case_1"]
    assert facts["slices"] == list(alone.requests["case_1"].slices) and facts["of"] == SHAPE[0]
    assert len(facts["foreground"]) == len(facts["difficulty"]) == 3
