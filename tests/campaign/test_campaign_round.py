from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from nnunet_active.campaign.campaign_round import Round, round_folder, write_round


def test_an_entry_comes_back_as_it_was_written(tmp_path):
    one = Round(12, 40, ("b", "a"), round_folder(tmp_path, 12), "select")
    assert one.folder.name == "round_012"
    assert Round.from_entry(one.entry(), tmp_path) == one


def test_a_round_of_an_earlier_version_was_made_by_a_training(tmp_path):
    assert Round.from_entry({"number": 1, "epoch": 0, "requested": ["a"]}, tmp_path).made_by == "training"


def test_the_utilities_of_cases_that_were_picked_before_are_left_out_of_the_record(tmp_path):
    one = Round(1, 0, ("b", "a"), round_folder(tmp_path, 1))
    utilities = pd.DataFrame({"a": [0.1, 0.2], "b": [0.5, np.nan]})
    write_round(one, pd.DataFrame({"x": [1.0, 2.0]}, index=["a", "b"]), utilities, pd.DataFrame(), {}, {"note": "n"})
    content = one.selection()
    assert content["utilities"] == [{"a": 0.1, "b": 0.5}, {"a": 0.2}]
    assert content["note"] == "n" and content["requested"] == ["b", "a"]


def test_a_round_that_cannot_be_written_leaves_no_folder(tmp_path):
    one = Round(1, 0, ("a",), round_folder(tmp_path, 1))
    scores = pd.DataFrame({"x": [1.0]}, index=["a"])
    with pytest.raises(TypeError):
        write_round(one, scores, pd.DataFrame({"a": [1.0]}), pd.DataFrame(), {}, {"note": object()})
    assert not one.folder.exists()
