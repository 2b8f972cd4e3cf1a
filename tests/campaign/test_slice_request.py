from __future__ import annotations

import json

import pytest

from nnunet_active.campaign.slice_request import SliceRequest, join_requests


def test_a_request_comes_back_from_its_file_in_ascending_order():
    request = SliceRequest.from_json(json.loads('{"axis": "y", "slices": [9, 2, 4]}'))
    assert request == SliceRequest("y", (2, 4, 9))
    assert SliceRequest.from_json(json.loads(json.dumps(request.to_json()))) == request


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {},
        {"axis": "z"},
        {"axis": "axial", "slices": [1]},
        {"axis": "z", "slices": []},
        {"axis": "z", "slices": [-1]},
        {"axis": "z", "slices": [1.5]},
        {"axis": "z", "slices": [True]},
        {"axis": "z", "slices": "12"},
    ],
)
def test_what_is_no_request_is_refused_with_what_was_found(content):
    with pytest.raises(ValueError, match="found"):
        SliceRequest.from_json(content)


def test_slices_of_several_rounds_join_along_one_axis_only():
    first, second = {"a": SliceRequest("z", (3, 5))}, {"a": SliceRequest("z", (1,)), "b": SliceRequest("x", (0,))}
    assert join_requests([first, second]) == {"a": SliceRequest("z", (1, 3, 5)), "b": SliceRequest("x", (0,))}
    with pytest.raises(ValueError, match="cannot join"):
        join_requests([first, {"a": SliceRequest("x", (1,))}])


def test_people_count_from_one():
    assert SliceRequest("z", (0,)).words() == "slice 1 along z"
    assert SliceRequest("x", (0, 9)).words() == "slices 1, 10 along x"
