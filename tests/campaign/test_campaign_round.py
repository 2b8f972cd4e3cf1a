from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from nnunet_active.campaign.campaign_round import Round, RoundContent, RoundEntry, write_round
from nnunet_active.util.errors import CampaignError


def test_an_entry_comes_back_as_it_was_written(tmp_path):
    entry = RoundEntry(12, 40, ("b", "a"), "select")
    one = Round.of(entry, tmp_path)
    assert one.folder.name == "round_012" and one.to_json() == entry.to_json()
    file = tmp_path / "selection.json"
    file.write_text(json.dumps({**one.to_json(), "notes": []}))
    assert RoundEntry.read(file) == entry


def test_a_round_of_an_earlier_version_was_made_by_a_training(tmp_path):
    file = tmp_path / "selection.json"
    file.write_text(json.dumps({"number": 1, "epoch": 0, "requested": ["a"]}))
    assert RoundEntry.read(file).made_by == "training"


def test_a_damaged_record_is_named(tmp_path):
    file = tmp_path / "selection.json"
    file.write_text(json.dumps({"number": 1, "epoch": 0, "requested": "a"}))
    with pytest.raises(CampaignError, match=r"selection\.json is not the record of a round \(requested: 'a' - input"):
        RoundEntry.read(file)


def test_a_record_that_lost_the_channel_of_a_case_is_damaged_and_one_from_before_there_were_any_is_not(tmp_path):
    one = Round.of(RoundEntry(1, 0, ("b", "a")), tmp_path)
    one.folder.mkdir()
    file, channel = one.folder / "selection.json", {"channel": 0, "name": "T1"}
    file.write_text(json.dumps({**one.to_json(), "dominant_modality": {"b": channel}}))
    with pytest.raises(CampaignError, match=r"selection\.json is not .*dominant_modality: a is missing"):
        one.selection()
    file.write_text(json.dumps(one.to_json()))
    assert one.selection()["dominant_modality"] == {}


def test_the_utilities_of_cases_that_were_picked_before_are_left_out_of_the_record(tmp_path):
    one = Round.of(RoundEntry(1, 0, ("b", "a")), tmp_path)
    utilities = pd.DataFrame({"a": [0.1, 0.2], "b": [0.5, np.nan]})
    scores = pd.DataFrame({"x": [1.0, 2.0]}, index=["a", "b"])
    write_round(one, RoundContent(one.requested, scores, utilities, pd.DataFrame(), details={"note": "n"}))
    content = one.selection()
    assert content["utilities"] == [{"a": 0.1, "b": 0.5}, {"a": 0.2}]
    assert content["note"] == "n" and content["requested"] == ["b", "a"]


def test_a_round_that_cannot_be_written_leaves_no_folder(tmp_path):
    one = Round.of(RoundEntry(1, 0, ("a",)), tmp_path)
    scores, utilities = pd.DataFrame({"x": [1.0]}, index=["a"]), pd.DataFrame({"a": [1.0]})
    with pytest.raises(TypeError):
        write_round(one, RoundContent(("a",), scores, utilities, pd.DataFrame(), details={"note": object()}))
    assert not one.folder.exists()


def test_a_row_of_the_scores_without_a_utility_is_named(tmp_path):
    one = Round.of(RoundEntry(1, 0, ("a",)), tmp_path)
    one.folder.mkdir()
    (one.folder / "scores.csv").write_text("case,x,utility\na,1,0.5\n}x\n")
    with pytest.raises(CampaignError, match=r"not the table of scores of round 1 \(utility of }x: no numbers\)"):
        one.scores()
