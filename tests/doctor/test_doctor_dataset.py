from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from tiny_dataset import write_image
from tiny_target import NAME, PLANS, make_target

from nnunet_active.campaign.campaign_round import RoundContent
from nnunet_active.campaign.campaign_start import start_campaign
from nnunet_active.campaign.place import Place
from nnunet_active.campaign.settings import Settings
from nnunet_active.data.campaign_files import campaign_file
from nnunet_active.doctor.doctor import Check
from nnunet_active.doctor.doctor_dataset import examine_dataset
from nnunet_active.util.log import silent
from nnunet_active.workspace import Workspace

SETTINGS = Settings(strategy="random", oracle="folder", budget=2, stride=1, epochs=4)


def examine(fold: str = "0", configuration: str | None = "3d_fullres", plans: str = PLANS) -> list[Check]:
    return examine_dataset("902", configuration, plans, fold)


def worse_than_ok(checks: list[Check]) -> list[tuple[str, str]]:
    return [(check.name, check.state) for check in checks if check.state != "ok"]


def text(checks: list[Check], name: str) -> str:
    return "\n".join(f"{check.found} {check.advice}" for check in checks if check.name == name)


@pytest.fixture
def target(nnunet_folders):
    return make_target(nnunet_folders, labelled=2, unlabelled=2)


def write_splits(folder, *folds):
    file = folder / "splits_final.json"
    file.write_text(json.dumps([{"train": list(train), "val": list(val)} for train, val in folds]))
    return file


def test_a_prepared_data_set_is_fine_and_its_configuration_is_found(target):
    checks = examine(configuration=None)
    assert worse_than_ok(checks) == []
    assert "2 cases with a label, 2 without" in text(checks, "raw data set")
    assert "2 with a label" in text(checks, "preprocessed cases")
    assert "Channels matched by name: T1, FLAIR, T1ce." in text(checks, "source network")
    assert "nnunet_active init -d 902 -c 3d_fullres" in text(checks, "campaign")


def test_looking_changes_nothing(target):
    def everything():
        return {path: path.stat().st_mtime_ns for path in target.root.rglob("*")}

    before = everything()
    examine()
    assert everything() == before


def test_an_unknown_data_set_is_one_problem(nnunet_folders):
    checks = examine()
    assert worse_than_ok(checks) == [("data set", "problem")]
    assert "Dataset902" in checks[0].found


def test_missing_plans_are_one_problem_and_what_needs_none_is_still_checked(target):
    checks = examine(plans="nnUNetOtherPlans")
    assert [name for name, state in worse_than_ok(checks)] == ["plans"]
    assert "nnunet_active plan" in text(checks, "plans")
    assert "2 cases with a label" in text(checks, "raw data set")


def test_before_the_first_select_there_are_no_plans_and_that_is_no_problem(target):
    shutil.rmtree(target.preprocessed)
    checks = examine(configuration=None, plans=None)
    assert worse_than_ok(checks) == []
    assert "select -d 902 -n" in text(checks, "plans") and "-m MODEL" in text(checks, "plans")


def test_a_case_without_one_of_its_channels_is_named(target):
    (target.raw / "imagesTr" / "case_3_0001.nii.gz").unlink()
    checks = examine()
    assert ("raw cases", "problem") in worse_than_ok(checks)
    assert "case_3 lacks the channel FLAIR" in text(checks, "raw cases")


def test_labels_that_changed_since_planning_are_a_problem(target):
    content = json.loads((target.raw / "dataset.json").read_text())
    content["labels"] = {"background": 0, "oedema": 1}
    (target.raw / "dataset.json").write_text(json.dumps(content))
    checks = examine()
    assert ("plans", "problem") in worse_than_ok(checks)
    assert "labels in the raw dataset.json" in text(checks, "plans")


def test_a_missing_source_network_is_a_problem_with_the_command_that_names_one(target):
    for file in (target.preprocessed / "active" / "source").rglob("*.pth"):
        file.unlink()
    checks = examine()
    assert worse_than_ok(checks) == [("source network", "problem")]


def test_channels_and_classes_that_do_not_match_are_a_warning(nnunet_folders):
    make_target(nnunet_folders, labelled=1, unlabelled=1, source_labels={"background": 0, "lesion": 1})
    checks = examine()
    assert worse_than_ok(checks) == [("source network", "warning")]
    assert "No class name in common" in text(checks, "source network")


def test_cases_that_are_missing_or_outdated_are_a_warning_with_the_command(target):
    for file in target.store.pool_folder.glob("case_2.*"):
        file.unlink()
    target.label("case_3", 3)
    checks = examine()
    assert worse_than_ok(checks) == [("preprocessed cases", "warning")] * 2
    found = text(checks, "preprocessed cases")
    assert "not preprocessed yet: case_2" in found and "has arrived since: case_3" in found
    assert "nnunet_active preprocess -d 902 " in found


def test_a_split_with_a_case_that_is_not_preprocessed_is_a_problem_of_its_own_fold_only(target):
    write_splits(target.preprocessed, (["case_0", "case_2"], ["case_1"]), (["case_0"], ["case_1"]))
    assert worse_than_ok(examine("0")) == [("splits_final.json, fold 0", "problem")]
    assert worse_than_ok(examine("1")) == [("splits_final.json, fold 0", "warning")]
    assert "case_2" in text(examine("0"), "splits_final.json, fold 0")


def test_validation_on_training_cases_is_told_apart_from_an_overlap_by_mistake(target):
    write_splits(target.preprocessed, (["case_0"], ["case_0"]), (["case_0", "case_1"], ["case_1"]))
    assert worse_than_ok(examine()) == [
        ("splits_final.json, fold 0", "warning"),
        ("splits_final.json, fold 1", "problem"),
    ]


def test_a_damaged_split_file_is_a_problem_and_the_rest_goes_on(target):
    (target.preprocessed / "splits_final.json").write_text("[{")
    checks = examine()
    assert [name for name, state in worse_than_ok(checks)] == ["splits_final.json"]
    assert checks[-1].name == "campaign"


def test_the_bare_assertion_of_stock_planning_is_explained(target):
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import _maybe_copy_splits_file

    raw = write_splits(target.raw, (["case_0"], ["case_1"]))
    assert worse_than_ok(examine()) == []
    own = write_splits(target.preprocessed, (["case_0"], ["case_1"]), (["case_1"], ["case_0"]))
    _maybe_copy_splits_file(str(raw), str(own))  # more folds than in the raw folder are fine for nnU-Net
    assert worse_than_ok(examine()) == []
    write_splits(target.preprocessed, (["case_1"], ["case_0"]))
    with pytest.raises(AssertionError, match=r"^$"):
        _maybe_copy_splits_file(str(raw), str(own))
    checks = examine()
    assert worse_than_ok(checks) == [("splits_final.json of the raw folder", "warning")]
    assert "AssertionError" in text(checks, "splits_final.json of the raw folder")
    # while a campaign adds labels the two differ, as they should
    start_campaign(Place.of(NAME, "3d_fullres", PLANS, "all"), SETTINGS)
    assert "splits_final.json of the raw folder" not in dict(worse_than_ok(examine("all")))


def test_channels_and_classes_that_the_source_does_not_know_are_no_fault_and_lost_ones_are(nnunet_folders):
    labels = {"background": 0, "oedema": 1, "core": 2, "scar": 3}
    make_target(nnunet_folders, labelled=1, unlabelled=1, labels=labels, source_labels=dict(list(labels.items())[:3]))
    checks = examine()
    assert worse_than_ok(checks) == [] and "scar" in text(checks, "source network")


def test_a_campaign_that_waits_for_a_label_names_the_case(target):
    import pandas as pd

    campaign = start_campaign(Place.of(NAME, "3d_fullres", PLANS, "0"), SETTINGS, log=silent)
    scores = pd.DataFrame({"utility": [1.0]}, index=["case_2"])
    campaign.append_round(RoundContent(["case_2"], scores, scores.T, pd.DataFrame({"case": ["case_2"]})))
    checks = examine()
    assert "campaign" not in dict(worse_than_ok(checks))  # a person is at work, nothing is wrong
    assert ": round 1 of 2, " in text(checks, "campaign")
    assert "waiting for the label of case_2" in text(checks, "campaign")


def test_rounds_beyond_the_plan_are_counted_as_status_counts_them(target):
    import pandas as pd

    campaign = start_campaign(Place.of(NAME, "3d_fullres", PLANS, "0"), SETTINGS, log=silent)
    scores = pd.DataFrame({"utility": [1.0] * 4}, index=[f"case_{number}" for number in range(2, 6)])
    for case in scores.index[:3]:  # the second was declined, and another one asked for in its place
        campaign.append_round(RoundContent([case], scores, scores.T, pd.DataFrame({"case": [case]})))
    assert ": round 3 of 3, " in text(examine(), "campaign")
    content = RoundContent(["case_5"], scores, scores.T, pd.DataFrame({"case": ["case_5"]}))
    campaign.append_round(content, made_by="select")
    assert ": 4 rounds, " in text(examine(), "campaign")


def test_a_campaign_for_other_plans_or_a_case_that_lost_its_preprocessed_copy_is_a_problem(target):
    start_campaign(Place.of(NAME, "3d_fullres", PLANS, "0"), SETTINGS, log=silent)
    for file in target.store.folder.glob("case_0*"):
        file.unlink()
    assert "labelled cases that are not preprocessed: case_0" in text(examine(), "campaign")
    file = campaign_file(target.preprocessed, "0")
    file.write_text(json.dumps({**json.loads(file.read_text()), "configuration": "2d"}))
    checks = examine()
    assert ("campaign", "problem") in worse_than_ok(checks)
    assert "it is for nnUNetActivePlans 2d" in text(checks, "campaign")


def test_a_damaged_campaign_is_a_problem(target):
    folder = campaign_file(target.preprocessed, "0").parent
    folder.mkdir(parents=True)
    (folder / "campaign.json").write_text("{")
    assert worse_than_ok(examine()) == [("campaign", "problem")]


def test_a_case_that_preprocessing_set_aside_is_named_with_the_reason_and_is_not_called_new(target):
    for channel in range(3):
        file = target.raw / "imagesTr" / f"odd_{channel:04d}.nii.gz"
        file.write_bytes((target.raw / "imagesTr" / f"case_0_{channel:04d}.nii.gz").read_bytes())
    write_image(target.raw / "imagesTr" / "odd_0002.nii.gz", np.zeros((3, 4, 5), dtype=np.float32))
    target.preprocess()
    checks = examine()
    assert worse_than_ok(checks) == [("cases set aside", "warning")]
    found = text(checks, "cases set aside")
    assert "odd" in found and "Mend their files" in found and "not preprocessed yet" not in found


def test_of_a_preprocessed_case_whose_files_broke_nobody_is_told_to_delete_it(target):
    (target.raw / "imagesTr" / "case_3_0001.nii.gz").unlink()
    found = text(examine(), "preprocessed cases")
    assert "case_3" in found and "Mend the files" in found and "Delete" not in found


def test_without_p_the_plans_are_those_of_the_campaign(target):
    content = json.loads((target.preprocessed / f"{PLANS}.json").read_text())
    (target.preprocessed / "nnUNetPlansFrom7.json").write_text(
        json.dumps({**content, "plans_name": "nnUNetPlansFrom7"})
    )
    start_campaign(Place.of(NAME, "3d_fullres", "nnUNetPlansFrom7", "0"), SETTINGS, log=silent)
    assert "nnUNetPlansFrom7, 3d_fullres" in text(examine(plans=None), "plans")
    assert f"{PLANS}, 3d_fullres" in text(examine("1", plans=None), "plans")


def test_a_scan_that_came_after_the_patients_were_named_is_a_warning(target):
    there = {case: "p" for case in Workspace(NAME, "0").raw.cases if case != "case_2"}
    start_campaign(Place.of(NAME, "3d_fullres", PLANS, "0"), replace(SETTINGS, groups={"table": there}), log=silent)
    checks = examine()
    assert ("campaign", "warning") in worse_than_ok(checks)
    assert "--groups does not say whose case_2 is" in text(checks, "campaign")


def test_whose_label_was_withdrawn_is_told_to_put_it_back_and_not_to_preprocess_alone(target):
    start_campaign(Place.of(NAME, "3d_fullres", PLANS, "0"), SETTINGS, log=silent)
    (target.raw / "labelsTr" / "case_0.nii.gz").unlink()
    said = text(examine(), "preprocessed cases")
    assert "whose file is gone from labelsTr" in said and "Put the labels back" in said
    assert "begin a new campaign (nnunet_active init ... --restart)" in said
    for file in target.store.folder.glob("case_0*"):
        file.unlink()
    target.preprocess()
    said = text(examine(), "campaign")
    assert "whose label is gone from labelsTr: case_0 Put the label of case_0 into labelsTr and run" in said
    assert "not preprocessed: case_0" not in said
