from __future__ import annotations

import json
import os

import pytest
from tiny_dataset import write_image
from tiny_handoff import SPACING, ask, hand_out
from tiny_rounds import copy_of, make_once, start
from tiny_target import NAME, truth

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.splits import FILE_NAME
from nnunet_active.returned.ingest import ingest
from nnunet_active.rounds.changed_by_hand import changes_by_hand
from nnunet_active.rounds.next_step import next_step
from nnunet_active.util.log import silent
from nnunet_active.workspace import Workspace


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    return make_once(tmp_path_factory.mktemp("changed"), 2, 2)


@pytest.fixture
def target(once, nnunet_folders):
    return copy_of(once, nnunet_folders)


def edit(file, **changes) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_channel_that_was_renamed_and_a_label_that_was_added_are_told_by_next(target):
    start()
    assert not changes_by_hand(Workspace(NAME))
    labels = json.loads((target.raw / "dataset.json").read_text())["labels"]
    edit(target.raw / "dataset.json", channel_names={"0": "T1", "1": "T2", "2": "T1ce"}, labels={**labels, "cyst": 3})
    (said,) = [one for one in next_step(Workspace(NAME)).why if "dataset.json" in one]
    assert "channels T1, T2, T1ce in place of T1, FLAIR, T1ce" in said and "cyst (3) is new" in said


def test_a_fold_that_was_edited_by_hand_is_told_and_what_counts_and_what_to_do(target):
    (target.preprocessed / FILE_NAME).write_text(json.dumps([{"train": ["case_0"], "val": ["case_1"]}] * 2))
    campaign = start()
    file = target.preprocessed / FILE_NAME
    folds = json.loads(file.read_text())
    folds[1]["train"] = ["case_1"]  # none of the campaign's
    file.write_text(json.dumps(folds))
    assert not changes_by_hand(Workspace(NAME))
    folds[0] = {"train": ["case_0", "case_1"], "val": []}
    file.write_text(json.dumps(folds))
    (said,) = changes_by_hand(Workspace(NAME))
    assert (
        f"{file} was changed by hand" in said and "fold 0 (1 to train on, 1 held out)" in said and "--restart" in said
    )
    with campaign.lock():  # whoever writes puts the campaign's own back, and keeps the other
        assert not changes_by_hand(Workspace(NAME))
    assert json.loads(file.read_text())[0] == {"train": ["case_0"], "val": ["case_1"]}
    assert json.loads((target.preprocessed / "active" / "splits_before_nnunet_active.json").read_text()) == folds


def test_a_scan_that_was_deleted_is_not_counted_as_left_in_the_pool(target):
    start()
    assert next_step(Workspace(NAME)).state["pool"] == 2
    for file in (target.raw / "imagesTr").glob("case_2_*"):
        file.unlink()
    assert next_step(Workspace(NAME)).state["pool"] == 1


def test_a_label_that_was_deleted_everywhere_though_the_campaign_counts_it_is_told(target):
    start(oracle="folder")
    (target.raw / "labelsTr" / "case_1.nii.gz").unlink()
    assert not changes_by_hand(Workspace(NAME))  # training has a copy
    for file in target.preprocessed.rglob("case_1*"):
        file.unlink()
    (said,) = changes_by_hand(Workspace(NAME))
    assert said.startswith("The label of case_1 cannot be found any more") and "init ... --restart" in said
    assert said in next_step(Workspace(NAME)).why
    campaign = Campaign.open(target.preprocessed, 0)
    ask(campaign, "case_2")
    with campaign.lock():
        campaign.mark_labelled(["case_2"])
    step = next_step(Workspace(NAME))  # which would be a training, if one could run
    assert (step.kind, step.command.split()[:2]) == ("preprocess", ["nnunet_active", "preprocess"]) and said in step.why


def test_a_label_that_was_edited_after_it_was_taken_is_told_until_it_is_taken_again(target):
    campaign = start(oracle="folder", budget=1, query_size=1)
    ask(campaign, "case_2")
    folder = hand_out(target, campaign, target.raw / "annotate" / "fold_0_round_001")
    file = folder / "case_2" / "case_2.nii.gz"
    write_image(file, truth(2), spacing=SPACING)
    ingest(NAME, log=silent)
    assert not changes_by_hand(Workspace(NAME))
    os.utime(file)  # saved again as it is
    assert not changes_by_hand(Workspace(NAME))
    label = truth(2)
    label[0, 0, 0] = 1
    write_image(file, label, spacing=SPACING)
    (said,) = [one for one in next_step(Workspace(NAME)).why if "Edited since it was taken" in one]
    assert "the label of case_2. nnunet_active ingest -d 902" in said
    assert list(ingest(NAME, log=silent).corrected) == ["case_2"]
    assert not changes_by_hand(Workspace(NAME))


def test_a_label_that_was_edited_where_only_its_annotator_keeps_it_is_told_with_that_folder(target, tmp_path):
    campaign = start(oracle="folder", budget=2, query_size=2)
    ask(campaign, "case_2", "case_3")
    hand_out(target, campaign, target.raw / "annotate" / "fold_0_round_001")
    file = tmp_path / "they came" / "today" / "case_2.nii.gz"
    write_image(file, truth(2), spacing=SPACING)
    ingest(NAME, "0", [tmp_path / "they came"], log=silent)
    assert not changes_by_hand(Workspace(NAME))
    step = next_step(Workspace(NAME))
    assert step.also[0][1] == f"nnunet_active ingest -d 902 --from '{tmp_path / 'they came'}'"
    label = truth(2)
    label[0, 0, 0] = 1
    write_image(file, label, spacing=SPACING)
    (said,) = changes_by_hand(Workspace(NAME))
    assert f"the label of case_2. nnunet_active ingest -d 902 --from '{file.parent}' takes it again" in said
    assert list(ingest(NAME, "0", [file.parent], log=silent).corrected) == ["case_2"]
    assert not changes_by_hand(Workspace(NAME))
    file.unlink()
    file.parent.rmdir()
    assert "--from" not in next_step(Workspace(NAME)).also[0][1]
