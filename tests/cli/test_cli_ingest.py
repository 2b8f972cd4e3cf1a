from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_handoff import ask, edit, hand_out
from tiny_target import NAME, PLANS, make_target, truth

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_start import start_campaign
from nnunet_active.campaign.fine_tuning import FineTuning
from nnunet_active.campaign.place import Place
from nnunet_active.campaign.running import TrainingNote
from nnunet_active.campaign.settings import Settings
from nnunet_active.cli.ingest import agreement
from nnunet_active.cli.main import main
from nnunet_active.util.log import silent


@pytest.fixture
def folder(nnunet_folders, tmp_path):
    target = make_target(nnunet_folders, labelled=1, unlabelled=3)
    campaign = start_campaign(Place.of(NAME, "3d_fullres", PLANS, "0"), Settings(budget=3), "folder", log=silent)
    ask(campaign, "case_3", "case_1")
    return hand_out(target, campaign, tmp_path / "handoff")


def test_what_came_back_what_did_not_and_the_next_command(folder, capsys):
    edit(folder, "case_3")
    assert main(["ingest", "-d", "902"]) == 0
    shown = capsys.readouterr().out
    assert (
        "New label: case_3 (oedema " in shown
        and "Dice prediction to label oedema 0." in shown
        and "voxels changed" in shown
    )
    assert "--accept-unchanged case_1" in shown and "Still waiting for a label: case_1" in shown
    assert shown.rstrip().endswith("Next: nnunet_active ingest -d 902")
    assert main(["ingest", "-d", "902", "--accept-unchanged", "case_1"]) == 0
    assert "accepted as predicted" in capsys.readouterr().out
    assert main(["ingest", "-d", "902"]) == 0
    assert "No new label was found." in capsys.readouterr().out


def test_while_a_training_runs_the_last_line_says_that_nothing_is_to_do(folder, capsys):
    campaign = Campaign.open(folder.parent / "nnUNet_preprocessed" / NAME, "0")
    note = TrainingNote(campaign.folder, "nnUNetTrainerActive", "0", 40)
    note.at(3)
    for case in "case_3", "case_1":
        edit(folder, case)
    assert main(["ingest", "-d", "902"]) == 0
    note.end()
    assert capsys.readouterr().out.rstrip().endswith("There is nothing to do until the training ends.")


def test_before_a_training_it_says_what_the_training_costs(nnunet_folders, tmp_path, capsys):
    target = make_target(nnunet_folders, labelled=1, unlabelled=3)
    mixed = FineTuning(interpolation="guarded", unlabelled="mix")
    settings = Settings(budget=3, fine_tuning={"interpolation": "guarded", "unlabelled": "mix"})
    campaign = start_campaign(Place.of(NAME, "3d_fullres", PLANS, "0"), settings, "folder", log=silent)
    ask(campaign, "case_3")
    edit(hand_out(target, campaign, tmp_path / "handoff"), "case_3")
    assert main(["ingest", "-d", "902"]) == 0
    *_, cost, following = capsys.readouterr().out.splitlines()
    assert (cost,) == mixed.cost() and following.startswith("Next: nnUNetv2_train 902 3d_fullres 0")


def test_without_the_results_folder_no_label_is_taken(folder, capsys, monkeypatch):
    edit(folder, "case_3")
    with monkeypatch.context() as patch:
        patch.delenv("nnUNet_results")
        assert main(["ingest", "-d", "902"]) == 2
    assert "nnUNet_results is not set" in capsys.readouterr().err
    assert main(["ingest", "-d", "902"]) == 0 and "New label: case_3" in capsys.readouterr().out


def test_a_refused_label_makes_the_exit_code_one(folder, capsys):
    edit(folder, "case_3", np.full_like(truth(3), 7))
    assert main(["ingest", "-d", "902"]) == 1
    assert "Refused: Case case_3: the label " in capsys.readouterr().out


def test_a_label_under_another_name_is_named_and_its_prediction_is_not_offered_as_right(folder, capsys):
    file = edit(folder, "case_3", ending="_corrected.nii.gz")
    for words in [], ["--from", str(folder)]:
        assert main(["ingest", "-d", "902", *words]) == 1
        shown = capsys.readouterr().out
        assert f"Not taken: Case case_3: {file} is not named after the case" in shown
        assert f"save it as {file.parent / 'case_3.nii.gz'}" in shown and "Named after no case" not in shown
        assert "--accept-unchanged case_1\n" in shown and "Untouched: case_3" not in shown
    file.rename(file.with_name("case_3.nii.gz"))
    assert main(["ingest", "-d", "902"]) == 0
    assert "New label: case_3 (" in capsys.readouterr().out


def test_a_label_that_nobody_asked_for_is_told_from_the_others(folder, capsys, tmp_path):
    for case in "case_2", "case_3":
        edit(tmp_path / "came", case)
    assert main(["ingest", "-d", "902", "--from", str(tmp_path / "came")]) == 0
    shown = capsys.readouterr().out
    assert "New label: case_2 (not asked for; oedema " in shown and "New label: case_3 (oedema " in shown


def test_a_label_that_may_be_of_another_scan_is_the_last_thing_said(folder, capsys):
    for case in "case_1", "case_3":
        edit(folder, case, truth(2))
    assert main(["ingest", "-d", "902"]) == 0
    shown = capsys.readouterr().out
    assert (
        shown.index("New label: case_3") < shown.index("LOOK AT THIS LABEL AGAIN: Case case_3: ") < shown.index("Next:")
    )
    assert shown.count("voxel for voxel") == 2


def test_what_lies_beside_a_label_that_is_taken_or_accepted_is_nobodys_label(folder, capsys):
    for case in "case_3", "case_1":
        edit(folder, case, ending="_draft.nii.gz")
    edit(folder, "case_3")
    assert main(["ingest", "-d", "902", "--accept-unchanged", "case_1"]) == 0
    assert "Not taken" not in capsys.readouterr().out


def test_a_prediction_is_accepted_while_other_labels_come_from_a_folder(folder, capsys, tmp_path):
    edit(tmp_path / "came", "case_3")
    assert main(["ingest", "-d", "902", "--from", str(tmp_path / "came"), "--accept-unchanged", "case_1"]) == 0
    shown = capsys.readouterr().out
    assert "New label: case_3 (" in shown and "New label: case_1 (" in shown and "accepted as predicted" in shown


def test_an_edited_label_that_was_handed_out_counts_more_than_that_its_prediction_is_accepted(folder, capsys, tmp_path):
    edit(tmp_path / "came", "case_3")
    edit(folder, "case_1")
    assert main(["ingest", "-d", "902", "--from", str(tmp_path / "came"), "--accept-unchanged", "case_1"]) == 0
    shown = capsys.readouterr().out
    assert "New label: case_1 (" in shown and "accepted as predicted" not in shown


def test_what_is_refused_in_a_folder_is_taken_again_from_there(folder, capsys, tmp_path):
    edit(tmp_path / "came", "case_3", np.full_like(truth(3), 7))
    assert main(["ingest", "-d", "902", "--from", str(tmp_path / "came")]) == 1
    assert capsys.readouterr().out.rstrip().endswith(f"Next: nnunet_active ingest -d 902 --from {tmp_path / 'came'}")


def test_a_folder_in_which_nothing_was_is_not_named_again(folder, capsys, tmp_path):
    (tmp_path / "old").mkdir()
    assert main(["ingest", "-d", "902", "--from", str(tmp_path / "old")]) == 0
    assert capsys.readouterr().out.rstrip().endswith("Next: nnunet_active ingest -d 902")


def test_json_holds_all_of_it_and_nothing_else_is_printed(folder, capsys, tmp_path):
    edit(tmp_path / "came", "case_3", ending=".seg.nrrd")
    words = ["--from", str(tmp_path / "came"), "--decline", "case_1", "--reason", "moved"]
    assert main(["ingest", "-d", "902", *words, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert list(content["taken"]) == ["case_3"] and content["declined"] == ["case_1"] and content["waiting"] == []
    assert content["next"].startswith("nnUNetv2_train 902 3d_fullres 0 ")
    assert Campaign.open(folder.parent / "nnUNet_preprocessed" / NAME, "0").declined == {"case_1": "moved"}


def test_a_mistake_is_one_sentence_and_exit_code_two(folder, capsys):
    assert main(["ingest", "-d", "902", "--from", "nowhere"]) == 2
    assert capsys.readouterr().err == (
        "nnunet_active ingest: --from nowhere was not found; name the folder in which the finished labels are.\n"
    )


def test_accepting_a_prediction_that_nobody_was_given_says_what_to_do(nnunet_folders, capsys):
    make_target(nnunet_folders, labelled=1, unlabelled=3)
    campaign = start_campaign(Place.of(NAME, "3d_fullres", PLANS, "0"), Settings(budget=3), "folder", log=silent)
    ask(campaign, "case_3", "case_1")
    assert main(["ingest", "-d", "902", "--accept-unchanged", "case_3", "case_2"]) == 1
    said = capsys.readouterr().out
    assert "Case case_2 cannot be accepted: it was never asked for" in said
    assert (
        "Case case_3 cannot be accepted: no prediction of it is in a hand-off folder; nnunet_active annotate -d 902"
        in said
    )
    assert campaign.waiting() == ["case_3", "case_1"]


def test_a_volume_of_some_slices_says_that_it_is_of_these_alone():
    facts = {"volume_label_mm3": {"tumour": 3480.0}, "changed_voxels": None}
    assert agreement(facts, True) == "tumour 3.48 cm3 in the asked slices; no prediction to compare with"
    assert agreement(facts, False) == "tumour 3.48 cm3; no prediction to compare with"
    assert agreement(facts, False, metric=False) == "tumour 3480 pixels; no prediction to compare with"
