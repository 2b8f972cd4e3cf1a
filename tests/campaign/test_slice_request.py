from __future__ import annotations

import json

import pytest

from nnunet_active.campaign.campaign_round import RoundEntry
from nnunet_active.campaign.slice_request import SliceRequest, join_requests
from nnunet_active.util.errors import CampaignError

ENTRY = {"number": 1, "epoch": 0, "requested": ["a"], "made_by": "select"}


def test_a_request_comes_back_from_the_record_of_its_round(tmp_path):
    entry = RoundEntry(1, 0, ("a", "b"), "select", {"a": SliceRequest("y", (2, 9)), "b": SliceRequest("z", (0,))})
    (tmp_path / "selection.json").write_text(json.dumps(entry.to_json()))
    assert RoundEntry.read(tmp_path / "selection.json") == entry


def test_a_round_of_whole_cases_is_written_as_before_there_were_slices():
    assert RoundEntry(1, 0, ("a",), "select").to_json() == ENTRY


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"axis": "z"},
        {"axis": "axial", "slices": [1]},
        {"axis": "z", "slices": []},
        {"axis": "z", "slices": [-1]},
        {"axis": "z", "slices": [2, 1]},
        {"axis": "z", "slices": [1, 1]},
        {"axis": "z", "slices": [1.5]},
        {"axis": "z", "slices": [True]},
        {"axis": "z", "slices": "12"},
    ],
)
def test_what_is_no_request_is_refused_with_the_file_that_holds_it(tmp_path, content):
    file = tmp_path / "selection.json"
    file.write_text(json.dumps({**ENTRY, "slices": {"a": content}}))
    with pytest.raises(CampaignError, match="is not the record of a round"):
        RoundEntry.read(file)


def test_slices_of_several_rounds_join_along_one_axis_only():
    first, second = {"a": SliceRequest("z", (3, 5))}, {"a": SliceRequest("z", (1,)), "b": SliceRequest("x", (0,))}
    assert join_requests([first, second]) == {"a": SliceRequest("z", (1, 3, 5)), "b": SliceRequest("x", (0,))}
    with pytest.raises(ValueError, match="cannot join"):
        join_requests([first, {"a": SliceRequest("x", (1,))}])


def test_what_two_requests_share_is_a_request_or_none():
    one = SliceRequest("z", (1, 2, 3))
    assert one.within(SliceRequest("z", (2, 9))) == SliceRequest("z", (2,))
    assert one.within(SliceRequest("z", (9,))) is None and one.within(None) is None


def test_people_count_from_one():
    assert SliceRequest("z", (0,)).words() == "slice 1 along z"
    assert SliceRequest("x", (0, 9)).words() == "slices 1, 10 along x"
