from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_handoff
import torch
from tiny_rounds import request, start
from tiny_target import NAME, PLANS, truth

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_start import set_aside
from nnunet_active.cli.main import main
from nnunet_active.returned.ingest import ingest
from nnunet_active.rounds.hand_over import hand_over
from nnunet_active.rounds.handoff_place import default_folder, new_place, set_folder_aside, stays_in_place
from nnunet_active.util.log import silent
from nnunet_active.workspace import Workspace


def select(*flags) -> int:
    shown = ["select", "-d", "902", "-c", "3d_fullres", "-np", "1", "-device", "cpu", "--strategy", "random"]
    return main([*shown, *map(str, flags)])


def campaign_of(target) -> Campaign:
    return Campaign.open(target.preprocessed, "0")


def hand(campaign, folder=None, log=silent):
    def predict(image):
        logits = torch.zeros((3, *image.shape[1:]))
        logits[1] = torch.from_numpy(image[0]) * 4 - 2
        return logits

    with campaign.lock():
        return hand_over(Workspace.of(campaign), predict, folder, log=log)


def folders_of(campaign) -> list:
    return [campaign.handoff_folder(one.number) for one in campaign.rounds]


def label_of(target, case: str) -> np.ndarray:
    return tiny_handoff.voxels(target.raw / "labelsTr" / f"{case}.nii.gz")


def edit(folder, case: str) -> np.ndarray:
    """A correction of what was labelled before."""
    better = truth(int(case[-1]))
    better[0, 0, 0] = 2
    tiny_handoff.edit(folder, case, better)
    return better


# --- one folder for all rounds ----------------------------------------------------------------------------------------------------


def test_the_same_folder_named_in_two_rounds_holds_both_and_corrections_of_the_first_are_found(
    target, tmp_path, capsys
):
    out = tmp_path / "out"
    assert select("-n", 2, "-o", out) == 0
    (first,) = campaign_of(target).rounds
    for case in first.requested:
        tiny_handoff.edit(out, case)
    assert main(["ingest", "-d", "902"]) == 0
    assert select("-n", 1, "-o", out) == 0
    assert f"{out} holds round 1, so round 2 goes to {out / 'round_002'}." in capsys.readouterr().out
    assert folders_of(campaign_of(target)) == [out, out / "round_002"]
    assert not list(tmp_path.glob("out_until_*"))
    (second,) = campaign_of(target).rounds[1].requested
    tiny_handoff.edit(out / "round_002", second)
    better = edit(out, first.requested[0])
    report = ingest(NAME, log=silent)
    assert list(report.taken) == [second] and list(report.corrected) == [first.requested[0]]
    np.testing.assert_array_equal(label_of(target, first.requested[0]), better)


@pytest.mark.parametrize("finished", [True, False])
def test_further_cases_in_the_same_folder_leave_the_round_that_waits_where_it_is(target, tmp_path, finished):
    out = tmp_path / "out"
    assert select("-n", 2, "-o", out) == 0
    case = campaign_of(target).rounds[0].requested[0]
    if finished:
        tiny_handoff.edit(out, case)
    assert select("-n", 1, "--more", "-o", out) == 0
    assert folders_of(campaign_of(target)) == [out, out / "round_002"] and not (out / "round_001").exists()
    if not finished:
        tiny_handoff.edit(out, case)
    assert list(ingest(NAME, log=silent).taken) == [case]


def test_a_killed_or_repeated_command_goes_on_in_the_same_place(target, tmp_path):
    campaign = start(budget=3)
    request(campaign, "case_1")
    hand(campaign, tmp_path / "out")
    request(campaign, "case_2")
    with campaign.lock():  # as far as a command comes that is killed before it writes anything
        campaign.record_handoff(2, tmp_path / "out" / "round_002")
    said: list[str] = []
    for folder in (tmp_path / "out", None):
        handed = hand(campaign, folder, said.append)
        assert [one.folder for one in handed] == [tmp_path / "out", tmp_path / "out" / "round_002"] and not said


def test_a_folder_of_another_campaign_keeps_what_it_holds(target, tmp_path):
    other, campaign, out, said = start("all"), start(), tmp_path / "out", []
    request(other, "case_1")
    request(other, "case_2")
    hand(other, out)
    before = {file: file.read_bytes() for file in out.rglob("*.json")}
    assert folders_of(other) == [out / "round_001", out / "round_002"]
    for case in ("case_3", "case_4"):
        request(campaign, case)
        hand(campaign, out, said.append)
    assert folders_of(campaign) == [out, out / f"{NAME}_fold_0_round_002"]
    request(other, "case_5")
    hand(other, out, said.append)
    assert folders_of(other)[2] == out / "round_003" and f"{out} holds round 1, so round 3 goes to" in said[-1]
    assert all(file.read_bytes() == content for file, content in before.items())


def test_a_folder_of_an_earlier_campaign_of_the_same_fold_is_gone_on_with_below_it(target, tmp_path):
    campaign = start()
    request(campaign, "case_1")
    hand(campaign, tmp_path / "out")
    set_aside(campaign.folder, silent)  # as init --restart does
    again = start()
    request(again, "case_1")
    said: list[str] = []
    (one,) = hand(again, tmp_path / "out", said.append)
    assert one.folder == tmp_path / "out" / "round_001"
    assert "holds what was handed over earlier, so round 1 goes to" in said[0]


def test_the_default_of_a_round_that_was_given_to_another_one_is_not_taken_from_it(target):
    campaign = start()
    raw = Workspace.of(campaign).raw
    request(campaign, "case_1")
    taken = default_folder(campaign, raw, 2)
    hand(campaign, taken)
    request(campaign, "case_2")
    said: list[str] = []
    assert new_place(campaign, raw, 2, None, True, said.append) == taken / "round_002"
    assert "holds round 1, so round 2 goes to" in said[0]


def test_a_folder_is_the_same_by_whatever_path(target, tmp_path, monkeypatch):
    campaign = start()
    request(campaign, "case_1")
    hand(campaign, tmp_path / "out")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    for folder in (None, tmp_path, tmp_path / "link", Path("link"), tmp_path / "link" / ".." / "out"):
        assert stays_in_place(campaign, 1, folder)
    assert not stays_in_place(campaign, 1, tmp_path / "other") and not stays_in_place(campaign, 2, None)


# --- a folder that makes way ------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_rounds(target, tmp_path):
    """Two rounds in one folder, and a finished label in each."""
    campaign = start(budget=2)
    for case in ("case_1", "case_2"):
        request(campaign, case)
        hand(campaign, tmp_path / "out")
    for folder, case in zip(folders_of(campaign), ("case_1", "case_2"), strict=True):
        tiny_handoff.edit(folder, case)
    return campaign


def test_finished_labels_of_a_round_below_a_folder_that_makes_way_are_still_found(target, tmp_path, two_rounds):
    said: list[str] = []
    with two_rounds.lock():
        set_folder_aside(two_rounds, 1, tmp_path / "out", "of an earlier hand-off", said.append)
    (kept,) = tmp_path.glob("out_until_*")
    assert folders_of(two_rounds) == [tmp_path / "out", kept / "round_002"]
    assert said[1] == f"Round 2 is in {kept / 'round_002'} now." and f"ingest -d 902 --from {kept}" in said[0]
    assert list(ingest(NAME, log=silent).taken) == ["case_2"]


def test_killed_before_the_folder_was_renamed_the_next_run_renames_it_as_was_recorded(
    target, tmp_path, two_rounds, monkeypatch
):
    def killed(*_):
        raise KeyboardInterrupt

    with two_rounds.lock(), monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            set_folder_aside(two_rounds, 1, tmp_path / "out", "of an earlier hand-off", silent)
    recorded = folders_of(campaign_of(target))[1]
    assert recorded.parent.name.startswith("out_until_") and not recorded.exists()
    with two_rounds.lock():
        monkeypatch.setattr("nnunet_active.rounds.handoff_place.name_aside", lambda place: tmp_path / "another time")
        set_folder_aside(two_rounds, 1, tmp_path / "out", "of an earlier hand-off", silent)
    assert recorded.is_dir() and folders_of(campaign_of(target))[1] == recorded
    assert list(ingest(NAME, log=silent).taken) == ["case_2"]


def test_another_source_network_leaves_the_finished_labels_of_the_other_rounds(target, tmp_path):
    campaign = start(budget=2)
    for case in ("case_1", "case_2"):
        request(campaign, case)
        hand(campaign, tmp_path / "out")
    tiny_handoff.edit(folders_of(campaign)[1], "case_2")
    file = target.preprocessed / f"{PLANS}.json"
    plans = json.loads(file.read_text())
    for source in plans["source_models"].values():
        source["weights"] = "another source network"
    file.write_text(json.dumps(plans))
    hand(campaign, tmp_path / "out")
    assert folders_of(campaign)[0] == tmp_path / "out"
    assert list(ingest(NAME, log=silent).taken) == ["case_2"]


def test_what_is_no_hand_off_folder_stays(target, tmp_path):
    campaign = start()
    (tmp_path / "out").mkdir()
    with campaign.lock():
        set_folder_aside(campaign, 1, tmp_path / "out", "of an earlier hand-off", silent)
        set_folder_aside(campaign, 1, tmp_path / "none", "of an earlier hand-off", silent)
    assert [one.name for one in tmp_path.glob("out*")] == ["out"]
    shutil.rmtree(tmp_path / "out")
