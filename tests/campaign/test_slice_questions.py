from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_campaign import begin

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_round import RoundContent
from nnunet_active.campaign.settings import Settings
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.util.errors import CampaignError

CASES = ["a", "b", "c"]


def slices(*indices: int, axis: str = "z") -> SliceRequest:
    return SliceRequest(axis, indices)


def campaign_of(folder, budget=9, **more) -> Campaign:
    how = {"unit": "slice", "query_size": 3, "stride": 2, "epochs": 20, "per_case": 2, **more}
    return begin(folder, "0", Settings(budget=budget, **how))


def ask(campaign: Campaign, wanted: dict[str, SliceRequest], epoch: int = 0) -> None:
    picks = list(wanted)
    scores = pd.DataFrame({"mean_entropy": 0.5, "utility": 0.5}, index=picks)
    utilities = pd.DataFrame(np.ones((len(picks), len(picks))), columns=picks)
    worklist = pd.DataFrame({"case": picks})
    campaign.append_round(RoundContent(picks, scores, utilities, worklist, slices=wanted), epoch)


def test_a_case_may_be_asked_for_other_slices_once_the_first_are_labelled(tmp_path):
    campaign = campaign_of(tmp_path)
    ask(campaign, {"a": slices(1, 4), "b": slices(7)})
    assert campaign.pool(CASES) == ["c"] and campaign.waiting() == ["a", "b"]
    assert campaign.mark_labelled(["a"]) == ["a"]
    assert campaign.pool(CASES) == ["a", "c"] and campaign.waiting() == ["b"]
    ask(campaign, {"a": slices(2)})
    assert campaign.waiting() == ["a", "b"] and campaign.waiting_slices() == {"a": slices(2), "b": slices(7)}
    assert campaign.known_slices() == {"a": slices(1, 4)} and campaign.labelled() == ["a"]
    campaign.mark_labelled(["a", "b"])
    assert campaign.known_slices() == {"a": slices(1, 2, 4), "b": slices(7)}
    assert campaign.asked_slices() == campaign.known_slices() and campaign.requested() == ["a", "b"]


def test_the_budget_counts_slices_and_declined_ones_cost_nothing(tmp_path):
    campaign = campaign_of(tmp_path, budget=5)
    assert campaign.size_of_next_query() == 3
    ask(campaign, {"a": slices(1, 4), "b": slices(7)})
    assert (campaign.spent(), campaign.budget_left(), campaign.size_of_next_query()) == (3, 2, 2)
    campaign.mark_labelled(["a"])
    campaign.decline(["b"], "blurred")
    assert (campaign.spent(), campaign.budget_left()) == (2, 3) and campaign.waiting() == []
    ask(campaign, {"a": slices(5, 6)}, 2)
    campaign.decline(["a"])
    assert campaign.spent() == 2 and campaign.pool(CASES) == ["c"]  # what is labelled of it has cost something
    assert campaign.known_slices() == {"a": slices(1, 4)} and not campaign.exhausted


def test_what_was_known_at_an_epoch_does_not_depend_on_later_rounds(tmp_path):
    campaign = campaign_of(tmp_path)
    ask(campaign, {"a": slices(1)}, 0)
    campaign.mark_labelled(["a"])
    before = campaign.labels_by_name(1)
    ask(campaign, {"a": slices(2), "b": slices(3)}, 2)
    campaign.mark_labelled(["a", "b"])
    assert campaign.known_slices(1) == {"a": slices(1)} and campaign.labelled(1) == ["a"]
    assert campaign.labels_by_name(1) == before == ["a[slice 2 along z]"]
    assert campaign.labels_known(1) == 1 and campaign.labels_known(2) == campaign.labels_known() == 3


def test_it_comes_back_from_its_file_as_it_was(tmp_path):
    campaign = campaign_of(tmp_path)
    ask(campaign, {"a": slices(0, axis="x"), "c": slices(8, 9)})
    campaign.mark_labelled(["c"])
    again = Campaign.open(tmp_path, "0")
    assert again.to_json() == campaign.to_json() and again.known_slices() == {"c": slices(8, 9)}
    assert again.waiting_slices() == {"a": slices(0, axis="x")}


def test_a_round_that_a_kill_kept_out_of_the_campaign_is_adopted_with_its_slices(tmp_path):
    campaign = campaign_of(tmp_path)
    before = (campaign.folder / "campaign.json").read_bytes()
    ask(campaign, {"a": slices(1, 4)})
    (campaign.folder / "campaign.json").write_bytes(before)
    again = Campaign.open(tmp_path, "0").adopt()
    assert again.waiting_slices() == {"a": slices(1, 4)}


def test_a_campaign_of_whole_cases_says_nothing_of_slices(tmp_path):
    campaign = begin(tmp_path, "0", Settings(budget=2, stride=2, epochs=9), initial=["c"])
    ask(campaign, {})
    picks = pd.DataFrame({"x": 1.0}, index=["a"])
    campaign.append_round(RoundContent(["a"], picks, pd.DataFrame({"a": [1.0]}), picks))
    campaign.mark_labelled(["a"])
    text = json.dumps(campaign.to_json())
    for word in ("slice", "unit", "per_case", "axis"):
        assert word not in text
    assert campaign.spent() == 1 and campaign.labels_known() == 2 and not campaign.known_slices()
    assert campaign.labels_by_name() == ["a", "c"] and not campaign.asks_for_slices


def test_a_file_from_before_there_were_slices_asks_for_whole_cases(tmp_path):
    campaign = begin(tmp_path, "0", Settings(budget=2, stride=2, epochs=9))
    content = json.loads((campaign.folder / "campaign.json").read_text())
    assert not {"unit", "per_case", "slices", "axis"} & content["settings"].keys()
    assert not Campaign.open(tmp_path, "0").asks_for_slices


@pytest.mark.parametrize(
    ("how", "word"),
    [({"unit": "patch"}, "--unit patch"), ({"slices": "best"}, "--slices best"), ({"axis": "axial"}, "--axis")],
)
def test_unknown_words_are_refused_with_those_there_are(how, word):
    with pytest.raises(CampaignError, match=f"{word}.*choose one of"):
        Settings(**{"unit": "slice", **how})


requests = st.dictionaries(
    st.sampled_from(CASES),
    st.sets(st.integers(0, 6), min_size=1, max_size=3).map(lambda s: tuple(sorted(s))),
    min_size=1,
)


@settings(max_examples=30, deadline=None)
@given(rounds=st.lists(st.tuples(requests, st.sets(st.sampled_from(CASES))), max_size=5))
def test_whatever_is_asked_and_answered_nothing_is_both_known_and_waited_for(tmp_path_factory, rounds):
    campaign = campaign_of(tmp_path_factory.mktemp("campaign"), budget=60, epochs=200)
    for number, (wanted, answered) in enumerate(rounds):
        ask(campaign, {case: slices(*one) for case, one in wanted.items()}, 2 * number)
        campaign.mark_labelled([case for case in answered if case in campaign.waiting()])
        asked, known, waiting = campaign.asked_slices(), campaign.known_slices(), campaign.waiting_slices()
        for case, request in asked.items():
            parts = [one[case].slices for one in (known, waiting) if case in one]
            assert sorted(index for part in parts for index in part) == list(request.slices)
        assert campaign.spent() == sum(len(one.slices) for one in asked.values())
        assert set(campaign.labelled()) == set(known) and set(campaign.waiting()) == set(waiting)
