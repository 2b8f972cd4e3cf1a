from __future__ import annotations

import json
import os
import shutil
import time
from datetime import datetime

import pytest
import tiny_handoff
import torch
from tiny_campaign import edit
from tiny_dataset import write_image
from tiny_rounds import CASES, CONFIGURATION, copy_of, make_once, plan_another, request, start, trained
from tiny_target import NAME

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.running import TrainingNote
from nnunet_active.nnunet_discovery import discovery_folder
from nnunet_active.rounds.next_step import next_step
from nnunet_active.util.errors import CampaignError, MissingInput
from nnunet_active.workspace import Workspace

NOW = time.time()
LATER = NOW + 3600  # than whatever a test does, also where the tests before it took long


@pytest.fixture(scope="module")
def all_labelled(tmp_path_factory):
    return make_once(tmp_path_factory.mktemp("labelled"), 6, 0)


@pytest.fixture
def target(made, nnunet_folders, monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", str(discovery_folder()))
    return copy_of(made, nnunet_folders)


def step(fold="0", **where):
    before = time.process_time()  # of a busy machine the clock tells little
    found = next_step(Workspace(NAME, fold, **where))
    assert time.process_time() - before < 5
    assert json.loads(json.dumps(found.to_json()))["kind"] == found.kind
    return found


def mark(campaign: Campaign, *cases: str, came: float | None = None) -> None:
    with campaign.lock():
        for case in cases if came is not None else ():
            stamp = datetime.fromtimestamp(came).isoformat(timespec="seconds")
            campaign.record_label(case, {"time": stamp, "corrections": 0})
        campaign.mark_labelled(cases)


# --- before a campaign ---------------------------------------------------------------------------------------------------------------


def test_without_plans_the_next_command_names_the_source_model(target):
    shutil.rmtree(target.preprocessed)
    found = step(configuration=CONFIGURATION)
    assert (found.kind, found.command.split(" -device")[0]) == (
        "select",
        "nnunet_active select -d 902 -c 3d_fullres -n 3 -m MODEL",
    )
    assert any("no plans yet" in sentence for sentence in found.why)
    # the source model says which configuration it is
    assert step().command.split(" -device")[0] == "nnunet_active select -d 902 -n 3 -m MODEL"


def test_what_is_not_preprocessed_is_counted_and_select_does_it(target):
    shutil.rmtree(target.store.pool_folder)
    found = step()
    assert found.kind == "select" and "-m" not in found.command
    assert any("5 cases are not preprocessed yet" in sentence for sentence in found.why)


def test_without_a_campaign_the_first_round_comes_next(target):
    found = step()
    assert found.kind == "select" and found.command.startswith("nnunet_active select -d 902 -c 3d_fullres -n 3")
    assert found.also[0][1] == "nnunet_active init -d 902 -c 3d_fullres"
    assert step(fold="all").command.startswith("nnunet_active select -d 902 -c 3d_fullres -f all -n 3")


def test_a_fold_in_which_no_campaign_can_begin_is_said_before_a_command_is_shown(target):
    with pytest.raises(CampaignError, match=r"Nothing defines fold 3 of .*; begin with -f 0 or -f all"):
        next_step(Workspace(NAME, "3"))
    (target.raw / "splits_final.json").write_text(json.dumps([{"train": [CASES[0]], "val": [CASES[1]]}] * 4))
    assert " -f 3" in step("3").command


def test_several_planned_configurations_have_to_be_told_apart(target):
    plan_another(target)
    with pytest.raises(MissingInput, match="hold 3d_fullres, 2d: name the configuration with -c"):
        step()
    assert step(configuration="2d").command.startswith("nnunet_active select -d 902 -c 2d")


def test_a_data_set_whose_cases_all_have_labels_can_only_be_simulated(all_labelled, nnunet_folders):
    copy_of(all_labelled, nnunet_folders)
    found = step()
    assert found.command == "nnunet_active init -d 902 -c 3d_fullres" and "simulation" in found.why[1]


def test_a_data_set_without_scans_says_where_to_put_them(target):
    shutil.rmtree(target.raw / "imagesTr")
    shutil.rmtree(target.raw / "labelsTr")
    (target.raw / "imagesTr").mkdir()
    found = step()
    assert found.kind == "done" and "imagesTr" in found.why[1]


# --- a campaign without a round ------------------------------------------------------------------------------------------------------


def test_a_campaign_of_init_goes_on_with_its_training_or_with_a_round_before_it(target):
    start(strategy="mmacts")
    found = step()
    assert found.kind == "train" and found.command.startswith(
        "nnUNetv2_train 902 3d_fullres 0 -tr nnUNetTrainerMmActS -p nnUNetActivePlans"
    )
    assert any(command.startswith("nnunet_active select -d 902 -c 3d_fullres -n 2") for _, command in found.also)


def test_a_campaign_of_select_that_a_kill_kept_from_its_round_selects(target):
    edit(start(budget=2), made_by="select")
    found = step()
    assert found.kind == "select" and "-n 2" in found.command


def test_without_the_environment_variable_the_export_is_printed_too(target, monkeypatch):
    monkeypatch.delenv("nnUNet_extTrainer")
    start()
    assert any("export nnUNet_extTrainer" in command for _, command in step().also)


# --- cases wait -------------------------------------------------------------------------------------------------------------------


def test_a_request_of_a_training_has_no_hand_off_folder_yet(target):
    request(start(), "case_1", made_by="training")
    trained(target, labelled=["case_0"], file="checkpoint_latest.pth")
    found = step()
    assert found.kind == "annotate" and found.command.startswith("nnunet_active annotate -d 902")
    assert found.state["waiting"] == ["case_1"] and "case_1: not handed over" in "\n".join(found.lines())


def test_while_a_person_labels_the_folder_and_the_command_for_afterwards_are_shown(target, tmp_path):
    campaign = start()
    request(campaign, "case_1", "case_2")
    folder = tiny_handoff.hand_out(target, campaign, tmp_path / "hand off")
    found = step()
    assert (found.kind, found.command) == ("label", "nnunet_active ingest -d 902")
    assert str(folder) in "\n".join(found.lines()) and found.state["returned"] == []


def test_a_training_is_offered_only_where_it_goes_on_without_the_labels_that_are_missing(target, tmp_path):
    campaign = start()
    request(campaign, "case_1", "case_2")
    tiny_handoff.hand_out(target, campaign, tmp_path / "handoff")
    assert not any(command.startswith("nnUNetv2_train") for _, command in step().also)
    mark(campaign, "case_1")
    assert step().kind == "label" and any(command.startswith("nnUNetv2_train") for _, command in step().also)


def test_one_edited_label_of_two_is_enough_to_ingest(target, tmp_path):
    campaign = start()
    request(campaign, "case_1", "case_2")
    folder = tiny_handoff.hand_out(target, campaign, tmp_path / "handoff")
    tiny_handoff.edit(folder, "case_2")
    found = step()
    assert (found.kind, found.state["returned"]) == ("ingest", ["case_2"])
    assert "still the untouched prediction" in "\n".join(found.why)


def test_a_label_in_labels_tr_is_ready_unless_it_is_the_untouched_prediction(target, tmp_path):
    campaign = start()
    request(campaign, "case_1", "case_2")
    tiny_handoff.hand_out(target, campaign, tmp_path / "handoff")
    predicted = tiny_handoff.predicted("case_1")
    write_image(target.raw / "labelsTr" / "case_1.nii.gz", predicted, spacing=(1.5, 1.5, 1.5))
    found = step()
    assert found.kind == "label" and any("--accept-unchanged" in command for _, command in found.also)
    target.label("case_1", 1)
    assert step().state["returned"] == ["case_1"]


def test_why_ingest_would_refuse_a_label_is_said(target, tmp_path):
    campaign = start()
    request(campaign, "case_1")
    folder = tiny_handoff.hand_out(target, campaign, tmp_path / "out")
    file = folder / "case_1" / "case_1.nii.gz"
    file.write_bytes(file.read_bytes()[:100])
    found = step()
    assert (found.kind, found.command) == ("label", "nnunet_active ingest -d 902")
    assert any("ingest refuses its label" in sentence and "cannot be read" in sentence for sentence in found.why)


def test_a_label_that_came_without_any_folder_is_ready(target):
    request(start(), "case_1", "case_2")
    target.label("case_2", 2)
    assert (step().kind, step().state["returned"]) == ("ingest", ["case_2"])


def test_a_hand_off_folder_that_has_gone_is_written_again(target, tmp_path):
    campaign = start()
    request(campaign, "case_1")
    shutil.rmtree(tiny_handoff.hand_out(target, campaign, tmp_path / "handoff"))
    assert step().kind == "annotate"


def test_a_round_that_a_kill_kept_out_of_the_campaign_file_is_seen_and_nothing_is_written(target):
    campaign = start()
    before = (campaign.folder / "campaign.json").read_bytes()
    request(campaign, "case_1")
    (campaign.folder / "campaign.json").write_bytes(before)
    files = sorted(target.root.rglob("*"))
    assert step().state["waiting"] == ["case_1"]
    assert sorted(target.root.rglob("*")) == files and (campaign.folder / "campaign.json").read_bytes() == before


def test_labels_nobody_asked_for_are_to_be_taken_up(target):
    start()
    target.label("case_4", 4)
    found = step()
    assert found.kind == "ingest" and "case_4" in found.why[1]


def test_while_another_process_holds_the_campaign_it_can_still_be_looked_at(target):
    campaign = start()
    request(campaign, "case_1")
    with campaign.lock():
        assert step().kind == "annotate"


# --- labels are there ----------------------------------------------------------------------------------------------------------------


def test_labelled_and_not_trained_since_means_train_with_the_trainer_that_trained_last(target):
    campaign = start()
    request(campaign, "case_1", "case_2")
    mark(campaign, "case_1", "case_2")
    first = step()
    assert first.kind == "train" and first.command.startswith(
        "nnUNetv2_train 902 3d_fullres 0 -tr nnUNetTrainerActive "
    )
    assert "case_1" in first.why[1]
    trained(target, "nnUNetTrainerMmActS", labelled=["case_0", "case_1"])
    found = step()
    assert found.kind == "train" and "-tr nnUNetTrainerMmActS" in found.command and "--c" not in found.command
    assert "case_2" in found.why[1] and "case_1" not in found.why[1]


def test_a_training_that_was_stopped_is_gone_on_with(target):
    campaign = start(budget=3, query_size=1)
    request(campaign, "case_1", made_by="training")
    trained(target, labelled=["case_0"], file="checkpoint_latest.pth")
    mark(campaign, "case_1")
    found = step()
    assert found.kind == "train" and found.command.endswith(" --c") and "stopped before its end" in found.why[1]


def test_what_a_stock_trainer_unpickles_is_said_beside_the_command(target):
    campaign = start()
    request(campaign, "case_1")
    mark(campaign, "case_1")
    checkpoint = trained(target, "nnUNetTrainer", file="checkpoint_latest.pth")
    found = step()
    assert found.command.endswith(" --c") and f"nnU-Net unpickles {checkpoint}, which can run code" in found.why[-1]


def test_a_stopped_training_that_is_older_than_the_final_checkpoint_begins_anew(target):
    campaign = start()
    request(campaign, "case_1")
    mark(campaign, "case_1")
    trained(target, labelled=["case_0"])
    trained(target, labelled=["case_0"], file="checkpoint_latest.pth", saved=NOW - 100)
    found = step()
    assert found.kind == "train" and "--c" not in found.command


@pytest.mark.parametrize("content", [b"", b"\0" * 5000, None])
def test_a_stopped_training_whose_checkpoint_is_damaged_begins_anew(target, content):
    campaign = start()
    request(campaign, "case_1")
    mark(campaign, "case_1")
    checkpoint = trained(target, "nnUNetTrainerMmActS", labelled=["case_0"], file="checkpoint_latest.pth")
    checkpoint.write_bytes(checkpoint.read_bytes()[:2000] if content is None else content)
    found = step()
    assert found.kind == "train" and "-tr nnUNetTrainerMmActS" in found.command and "--c" not in found.command
    assert found.why[-1].startswith(f"{checkpoint} cannot be read") and found.why[-1].endswith("again without --c.")


def test_the_best_checkpoint_of_a_stopped_training_is_named_where_the_latest_is_damaged(target):
    campaign = start()
    request(campaign, "case_1")
    mark(campaign, "case_1")
    best = trained(target, labelled=["case_0"], file="checkpoint_best.pth")
    trained(target, labelled=["case_0"], file="checkpoint_latest.pth").write_bytes(b"PK")
    assert step().why[-1].endswith("with --c then goes on from checkpoint_best.pth, an earlier epoch.")
    previous = trained(target, labelled=["case_0"], file="checkpoint_previous.pth", saved=time.time() - 50)
    assert step().why[-1].endswith("an earlier epoch.")
    os.utime(best, (time.time() - 100,) * 2)  # that of the training before
    assert step().why[-1].endswith("again without --c.")
    previous.unlink()
    best.write_bytes(b"PK")
    assert step().why[-1].endswith("again without --c.")


def test_a_stopped_training_whose_checkpoint_holds_foreign_objects_goes_on(target):
    """nnU-Net reads it as it reads all of its own."""
    campaign = start()
    request(campaign, "case_1")
    mark(campaign, "case_1")
    checkpoint = trained(target, "nnUNetTrainer", file="checkpoint_latest.pth")
    torch.save({**torch.load(checkpoint, weights_only=False), "more": checkpoint}, checkpoint)
    assert step().command.endswith("--c")


def test_a_stopped_training_that_is_newer_than_the_final_checkpoint_goes_on(target):
    campaign = start()
    request(campaign, "case_1")
    mark(campaign, "case_1")
    trained(target, labelled=["case_0"], saved=NOW - 100)
    trained(target, labelled=["case_0"], file="checkpoint_latest.pth")
    found = step()
    assert found.kind == "train" and found.command.endswith("--c")


def test_trained_on_all_labels_and_budget_left_means_select(target):
    campaign = start(budget=4)
    request(campaign, "case_1", "case_2")
    mark(campaign, "case_1", "case_2")
    trained(target, labelled=["case_0", "case_1", "case_2"])
    found = step()
    assert found.kind == "select" and found.command.startswith("nnunet_active select -d 902 -c 3d_fullres -n 2")
    assert any("nnUNetv2_predict" in command for _, command in found.also)


def test_a_round_that_was_left_to_the_training_is_not_asked_for_before(target):
    campaign = start(budget=3)
    request(campaign, "case_1", "case_2")
    mark(campaign, "case_1", "case_2")
    trained(target, "nnUNetTrainerMmActS", labelled=["case_0", "case_1", "case_2"])
    with campaign.lock():
        campaign.leave_to_training()
    found = step()
    assert found.kind == "train" and "-tr nnUNetTrainerMmActS" in found.command and "--c" not in found.command
    request(campaign, "case_3", made_by="training", epoch=40)
    mark(campaign, "case_3")
    trained(target, "nnUNetTrainerMmActS", labelled=["case_0", "case_1", "case_2", "case_3"])
    assert step().kind == "done"


def test_a_training_that_would_end_before_it_asks_is_not_the_next_step(target):
    campaign = start(budget=2, query_size=1, epochs=80, stride=40)
    request(campaign, "case_1", made_by="training", epoch=0)
    request(campaign, "case_2", made_by="training", epoch=40)
    mark(campaign, "case_1", "case_2")
    trained(target, labelled=["case_0", "case_1", "case_2"])
    with campaign.lock():
        campaign.extend(1)
        campaign.leave_to_training()  # as an earlier version did it: the next query would be due before epoch 80
    assert step().kind == "select"


@pytest.mark.parametrize("newest", ["cannot be read", "lacks a label"])
def test_the_model_that_is_named_knows_all_labels_even_if_it_is_not_the_newest(target, newest):
    campaign = start(budget=4)
    request(campaign, "case_1", "case_2")
    mark(campaign, "case_1", "case_2")
    trained(target, "nnUNetTrainerMmActS", labelled=["case_0", "case_1", "case_2"], saved=NOW - 100)
    checkpoint = trained(target, "nnUNetTrainerActive", labelled=["case_0", "case_1"])
    if newest == "cannot be read":
        checkpoint.write_bytes(checkpoint.read_bytes()[:2000])
    found = step()
    assert found.kind == "select" and "with nnUNetTrainerMmActS knows all 3 labels" in found.why[1]
    assert any("nnUNetv2_predict" in command and "-tr nnUNetTrainerMmActS" in command for _, command in found.also)
    assert any(str(checkpoint) in sentence for sentence in found.why) == (newest == "cannot be read")


def test_a_model_that_cannot_be_read_and_no_label_is_as_no_training_at_all(target):
    (target.raw / "labelsTr" / "case_0.nii.gz").unlink()
    shutil.rmtree(target.preprocessed / target.store.folder.name)
    target.preprocess()
    start()
    checkpoint = trained(target, labelled=[])
    checkpoint.write_bytes(checkpoint.read_bytes()[:2000])
    found = step()
    assert found.kind == "train" and "No case has been asked for yet" in found.why[1]


def test_a_spent_budget_is_the_end_and_the_way_on_is_shown(target):
    campaign = start(budget=2)
    request(campaign, "case_1", "case_2")
    mark(campaign, "case_1", "case_2")
    trained(target, labelled=["case_0", "case_1", "case_2"])
    found = step()
    assert (found.kind, found.command) == ("done", "")
    assert "budget of 2 cases is spent" in "\n".join(found.lines())
    assert any(command.startswith("nnunet_active select") for _, command in found.also)


def test_a_campaign_that_select_began_has_no_planned_end(target):
    campaign = edit(start(budget=2), made_by="select")
    request(campaign, "case_1", "case_2")
    mark(campaign, "case_1", "case_2")
    trained(target, labelled=["case_0", "case_1", "case_2"])
    found = step()
    assert found.kind == "select" and "-n 2" in found.command and "nnUNetv2_predict" in found.also[0][1]
    assert "or stop here" in found.why[-1]
    request(campaign, "case_3", "case_4", "case_5")
    mark(campaign, "case_3", "case_4", "case_5")
    trained(target, labelled=CASES)
    assert step().kind == "done"


def test_an_empty_pool_is_the_end_even_if_budget_is_left(target):
    campaign = start(budget=9, query_size=9)
    request(campaign, *CASES[1:])
    mark(campaign, *CASES[1:])
    trained(target, labelled=CASES)
    found = step()
    assert found.kind == "done" and "No unlabelled case is left" in found.why[-1]


def test_scans_that_came_when_the_pool_was_empty_are_preprocessed_first(target):
    campaign = start(budget=9, query_size=9)
    request(campaign, *CASES[1:])
    mark(campaign, *CASES[1:])
    trained(target, labelled=CASES)
    for channel in range(3):
        there = target.raw / "imagesTr" / f"case_1_{channel:04d}.nii.gz"
        shutil.copy(there, target.raw / "imagesTr" / f"late_{channel:04d}.nii.gz")
    found = step()
    assert (found.kind, found.command) == ("preprocess", "nnunet_active preprocess -d 902 -c 3d_fullres")
    assert "late" in found.why[-1]


def test_scans_that_came_to_a_campaign_without_a_planned_end_are_asked_for_after_its_budget_is_spent(target):
    campaign = edit(start(budget=5, query_size=5), made_by="select")
    request(campaign, *CASES[1:])
    mark(campaign, *CASES[1:])
    trained(target, labelled=CASES)
    assert step().kind == "done"
    for channel in range(3):
        there = target.raw / "imagesTr" / f"case_1_{channel:04d}.nii.gz"
        shutil.copy(there, target.raw / "imagesTr" / f"late_{channel:04d}.nii.gz")
    found = step()
    assert found.kind == "select" and "-n 1" in found.command and "spent" not in " ".join(found.why)


def test_a_declined_case_frees_the_budget(target):
    campaign = start(budget=2)
    request(campaign, "case_1", "case_2")
    mark(campaign, "case_1")
    with campaign.lock():
        campaign.decline(["case_2"], "moved")
    trained(target, labelled=["case_0", "case_1"])
    found = step()
    assert found.kind == "select" and "-n 1" in found.command


def test_a_stock_trainers_model_is_judged_by_times_and_the_uncertainty_is_said(target):
    campaign = start(budget=2)
    request(campaign, "case_1", "case_2")
    mark(campaign, "case_1", "case_2", came=LATER - 1000)
    for case in "case_1", "case_2":
        shutil.copyfile(target.raw / "labelsTr" / "case_0.nii.gz", target.raw / "labelsTr" / f"{case}.nii.gz")
    trained(target, "nnUNetTrainer", begun=LATER + 5, saved=LATER + 50)
    found = step()
    assert found.kind == "done" and "keeps no record of its cases" in "\n".join(found.why)
    with campaign.lock():
        stamp = datetime.fromtimestamp(LATER + 20).isoformat(timespec="seconds")
        campaign.record_label("case_2", {"time": stamp, "corrections": 0})
    found = step()
    assert found.kind == "train" and found.command.startswith("nnUNetv2_train 902 3d_fullres 0 -tr nnUNetTrainer -p")
    assert "before the label of case_2 came" in "\n".join(found.why)


def test_in_a_simulation_the_training_takes_the_labels_up_itself(all_labelled, nnunet_folders, monkeypatch):
    target = copy_of(all_labelled, nnunet_folders)
    campaign = start(fold="all", budget=1, query_size=1)
    request(campaign, "case_1", made_by="training")
    trained(target, labelled=[], fold="all", file="checkpoint_latest.pth")
    found = step("all")
    assert found.kind == "train" and found.command.endswith("--c")


def test_with_cross_validation_the_own_fold_is_enough_to_ask_and_all_are_wanted_in_the_end(target):
    campaign = start(folds=2, budget=3, query_size=3)
    request(campaign, "case_1", "case_2")
    mark(campaign, "case_1", "case_2")
    from nnunet_active.rounds.trained_models import labels_to_train_on

    trained(target, "nnUNetTrainerMmActS", labelled=labels_to_train_on(campaign, "0"), fold="0", saved=NOW - 50)
    assert any("1 -tr nnUNetTrainerMmActS" in command for _, command in step().also)
    trained(target, labelled=labels_to_train_on(campaign, "0"), fold="0")
    found = step()
    assert "-f 0 " in f"{found.also[-1][1]} " and "-f 0 1" not in found.also[-1][1]
    assert found.kind == "select" and any("nnUNetv2_train 902 3d_fullres 1 " in command for _, command in found.also)
    request(campaign, "case_3")
    mark(campaign, "case_3")
    trained(target, labelled=labels_to_train_on(campaign, "0"), fold="0")
    assert step().command.startswith("nnUNetv2_train 902 3d_fullres 1 ")
    trained(target, labelled=labels_to_train_on(campaign, "1"), fold="1")
    assert step().kind == "done" and "-f 0 1" in step().also[0][1]
    assert step(fold="1") == step()  # a fold that the campaign covers
    trained(target, "nnUNetTrainerASSFT", labelled=labels_to_train_on(campaign, "1"), fold="1", saved=LATER)
    predict = step().also[0][1]  # nnU-Net looks for all folds in one trainer's folder
    assert "-f 1 -tr nnUNetTrainerASSFT" in predict


# --- while a training is under way ---------------------------------------------------------------------------------------------------


def test_while_a_training_is_under_way_next_says_how_far_it_is_and_what_it_waits_for(target):
    campaign = start()
    note = TrainingNote(campaign.folder, "nnUNetTrainerActive", "0", 40)
    note.at(3)
    found = step()
    assert found.kind == "wait" and "nnUNetTrainerActive trains fold 0 now: epoch 3 of 40" in found.why[1]
    assert found.lines()[-1] == "There is nothing to do until it ends."
    assert found.to_json()["state"]["running"][0]["epoch"] == 3
    request(campaign, "case_1")
    assert "waits for the labels of case_1" in step().why[2] and "labelsTr" in step().why[2]
    note.end()
    assert step().kind == "annotate"


def test_for_a_short_schedule_next_names_the_trainer_that_suits_it(target):
    start(strategy="mmacts", epochs=10, iterations=20, stride=2)
    assert "-tr nnUNetTrainerActiveAdamW " in step().command
