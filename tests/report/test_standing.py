from __future__ import annotations

import shutil

from report_campaign import make_setting, prediction
from tiny_dataset import write_image

from nnunet_active.campaign.running import TrainingNote
from nnunet_active.report.standing import standing
from nnunet_active.workspace import Workspace


def test_counts_bar_and_next_command_agree_with_the_campaign(nnunet_folders):
    content = standing(make_setting(nnunet_folders).workspace)
    assert content["waiting"] == ["case_2", "case_3"] and content["declined"] == {"case_1": "moved <b>a lot</b>"}
    assert (content["labelled"], content["asked"], content["budget"], content["rounds"]) == (1, 3, 5, 2)
    assert content["bar"] == [
        ("labelled on request", 1, 20),
        ("waiting for a label", 2, 40),
        ("left in the budget", 2, 40),
    ]
    assert content["step"]["command"].startswith("nnunet_active annotate -d 901")
    assert any("No labelled case is held out" in sentence for sentence in content["warnings"])


def test_a_label_that_is_there_leads_to_ingest(nnunet_folders):
    setting = make_setting(nnunet_folders)
    write_image(setting.raw_folder / "labelsTr" / "case_2.nii.gz", prediction(), spacing=(1.0, 1.0, 3.0))
    step = standing(setting.workspace)["step"]
    assert step["title"] == "Take the finished labels back" and step["command"].startswith(
        "nnunet_active ingest -d 901"
    )


def test_where_the_next_step_cannot_be_found_the_reason_stands_in_its_place(nnunet_folders):
    setting = make_setting(nnunet_folders)
    shutil.rmtree(setting.raw_folder)
    step = standing(Workspace.of(setting.campaign))["step"]
    assert step["title"] == "The next step is not known" and "dataset.json was not found" in step["why"][0]
    assert step["command"] == ""


def test_while_a_training_is_under_way_the_page_says_so(nnunet_folders):
    campaign = make_setting(nnunet_folders).campaign
    note = TrainingNote(campaign.folder, "nnUNetTrainerActive", "0", 40)
    note.at(3)
    step = standing(Workspace.of(campaign))["step"]
    note.end()
    assert step["title"] == "A training is under way" and "epoch 3 of 40" in step["why"][0]
