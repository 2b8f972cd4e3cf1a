from __future__ import annotations

import json

import pytest

from nnunet_active import __version__
from nnunet_active.campaign.campaign_round import RoundEntry
from nnunet_active.campaign.campaign_state import CampaignState, Roles
from nnunet_active.campaign.settings import Settings
from nnunet_active.util.errors import CampaignError


@pytest.fixture
def state() -> CampaignState:
    roles = Roles(initial=["b", "a"], val=["v"], split_origin="somebody")
    return CampaignState.at_the_start(("0", "3d_fullres", "P"), Settings(strategy="random"), roles, "select")


def test_what_is_empty_is_left_out_of_the_file_and_comes_back(tmp_path, state):
    content = state.to_json()
    assert content["version"] == __version__ and content["initial"] == ["a", "b"]
    assert not {"fold_of", "declined", "extra_budget", "left_to_training", "ingested", "handoff"} & set(content)
    file = tmp_path / "campaign.json"
    file.write_text(json.dumps(content))
    assert CampaignState.read(file) == state
    state.rounds.append(RoundEntry(1, 0, ("c",), "select"))
    state.extra_budget, state.declined = 2, {"c": "moved"}
    file.write_text(json.dumps(state.to_json()))
    assert CampaignState.read(file) == state


def test_a_file_of_the_first_versions_lacks_what_came_later(tmp_path, state):
    content = state.to_json()
    for name in ("version", "begun", "made_by", "split_origin"):
        del content[name]
    content["rounds"] = [{"number": 1, "epoch": 0, "requested": ["c"]}]
    file = tmp_path / "campaign.json"
    file.write_text(json.dumps(content))
    found = CampaignState.read(file)
    assert (found.version, found.made_by, found.rounds[0].made_by) == ("not known", "init", "training")
    assert found.begun == "" and "begun" not in found.to_json()


def test_no_two_campaigns_begin_at_the_same_moment(state):
    other = CampaignState.at_the_start(("0", "3d_fullres", "P"), Settings(), Roles(), "select")
    assert state.begun != other.begun and state.begun.endswith("+00:00")


def test_settings_that_make_no_sense_are_an_error_of_the_file(tmp_path, state):
    file = tmp_path / "campaign.json"
    content = state.to_json()
    file.write_text(json.dumps({**content, "settings": {**content["settings"], "oracle": "delphi"}}))
    with pytest.raises(CampaignError, match=r"campaign\.json is not a campaign file \(--oracle delphi is unknown"):
        CampaignState.read(file)


def test_a_beginning_that_is_no_moment_is_an_error_of_the_file(tmp_path, state):
    file = tmp_path / "campaign.json"
    file.write_text(json.dumps({**state.to_json(), "begun": "yesterday"}))
    with pytest.raises(CampaignError, match=r"campaign\.json is not a campaign file .*yesterday"):
        CampaignState.read(file)
