from __future__ import annotations

import json

import pytest
from tiny_rounds import request
from tiny_target import NAME, PLANS, make_target

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_start import draft_campaign
from nnunet_active.campaign.fine_tuning import recipe
from nnunet_active.campaign.place import Place
from nnunet_active.campaign.running import TrainingNote
from nnunet_active.campaign.settings import Settings
from nnunet_active.data.cases import open_store
from nnunet_active.util.errors import ActiveError, CampaignError, CampaignInUse, MissingInput


def start(fold="0", oracle=None, restart=False, **settings):
    said: list[str] = []
    draft = draft_campaign(Place.of(NAME, "3d_fullres", PLANS, fold), Settings(**settings), oracle)
    return draft.begin(restart, said.append), said


def test_the_oracle_is_found_by_looking(nnunet_folders):
    target = make_target(nnunet_folders, labelled=6)
    assert start()[0].settings.oracle == "retrospective"
    target.store.pool_folder.mkdir()
    assert start("all", oracle="folder")[0].settings.oracle == "folder"


def test_without_a_split_file_the_retrospective_folds_are_those_of_nnunet(nnunet_folders):
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    target = make_target(nnunet_folders, labelled=6)
    expected = generate_crossval_split([f"case_{i}" for i in range(6)], seed=12345, n_splits=5)
    campaign, _ = start("2")
    assert list(campaign.val) == expected[2]["val"]
    assert campaign.pool(target.store.identifiers()) == expected[2]["train"]
    assert not (target.preprocessed / "splits_final.json").exists()  # nothing is labelled yet


def test_a_split_file_in_the_raw_folder_defines_the_folds_and_is_never_written(nnunet_folders):
    target = make_target(nnunet_folders, labelled=5)
    splits = [{"train": ["case_0", "case_1", "case_2"], "val": ["case_4"]}]
    file = target.raw / "splits_final.json"
    file.write_text(json.dumps(splits))
    content = file.read_bytes()
    campaign, _ = start()
    assert campaign.val == ("case_4",)
    assert campaign.pool(target.store.identifiers()) == [
        "case_0",
        "case_1",
        "case_2",
    ]  # case_3 was left out by the user
    campaign.mark_labelled(["case_1"])
    assert file.read_bytes() == content


def test_a_held_out_case_is_never_asked_for_also_without_a_label(nnunet_folders):
    target = make_target(nnunet_folders, labelled=1, unlabelled=3)
    (target.raw / "splits_final.json").write_text(json.dumps([{"train": [], "val": ["case_3"]}]))
    campaign, said = start(oracle="folder")
    assert campaign.pool(target.store.pool_identifiers()) == ["case_1", "case_2"]
    assert any("no labelled case is held out" in sentence for sentence in said)


def test_restart_keeps_the_campaign_so_far_under_another_name(nnunet_folders):
    target = make_target(nnunet_folders)
    start()
    with pytest.raises(CampaignError, match="--restart"):
        start()
    campaign, _ = start(restart=True, budget=5)
    assert Campaign.open(target.preprocessed, "0").settings.budget == campaign.settings.budget == 5
    kept = [
        folder.name for folder in (target.preprocessed / "active").iterdir() if folder.name.startswith("fold_0_until_")
    ]
    assert len(kept) == 1


def test_a_restart_asks_for_nothing_that_nobody_can_label(nnunet_folders):
    target = make_target(nnunet_folders, labelled=1, unlabelled=4)
    first, _ = start(strategy="random")
    request(first, "case_1", "case_2")
    first.decline(["case_1", "case_2"], "no lesion can be seen")
    first.mark_labelled(["case_2"])  # somebody could, after all
    pool = target.store.pool_identifiers()
    again, said = start(restart=True, strategy="random")
    assert again.declined == {"case_1": "no lesion can be seen"} and "case_1" not in again.pool(pool)
    assert "3 cases to choose from" in " ".join(said) and "Declined before, and not asked for now: case_1." in said
    assert start(restart=True, strategy="random")[0].declined == again.declined


@pytest.mark.parametrize(("held_out", "warned"), [(0, True), (1, True), (2, False)])
def test_the_recipe_held_out_is_warned_of_where_too_few_cases_are_held_out(nnunet_folders, held_out, warned):
    target = make_target(nnunet_folders, labelled=3, unlabelled=2)
    cases = [f"case_{i}" for i in range(3)]
    split = [{"train": cases[held_out:], "val": cases[:held_out]}]
    (target.raw / "splits_final.json").write_text(json.dumps(split))
    said = start(fine_tuning=recipe("held_out"))[1]
    assert any("held_out needs 2 held-out cases" in sentence and "0.75" in sentence for sentence in said) == warned
    assert not any("held_out needs" in sentence for sentence in start(restart=True)[1])


@pytest.mark.parametrize("trained", ["0", "1"])  # other folds of a cross-validation do not hold the campaign
def test_a_restart_under_a_running_training_is_refused_and_says_which(nnunet_folders, trained):
    target = make_target(nnunet_folders)
    campaign, _ = start()
    note = TrainingNote(campaign.folder, "nnUNetTrainerActive", trained, 600)
    note.at(7)
    before = (campaign.folder / "campaign.json").read_bytes()
    with pytest.raises(CampaignInUse, match=f"nnUNetTrainerActive trains fold {trained} now: epoch 7 of 600.*stop it"):
        start(restart=True, budget=5)
    assert not list((target.preprocessed / "active").glob("fold_0_until_*"))
    assert (campaign.folder / "campaign.json").read_bytes() == before
    note.end()
    assert start(restart=True, budget=5)[0].settings.budget == 5


def test_a_restart_beside_a_command_that_holds_the_campaign_is_refused(nnunet_folders):
    make_target(nnunet_folders)
    campaign, _ = start()
    with campaign.lock(), pytest.raises(CampaignInUse, match="is in use by process"):
        start(restart=True)
    assert Campaign.open(campaign.dataset_folder, "0").begun == campaign.begun


@pytest.mark.parametrize(
    ("fold", "settings", "said"),
    [
        ("x", {}, "neither a number nor 'all'"),
        ("0", {"strategy": "mmact"}, "mmacts"),
    ],
)
def test_a_mistake_is_said_before_anything_is_written(nnunet_folders, fold, settings, said):
    target = make_target(nnunet_folders)
    with pytest.raises(ActiveError, match=said):
        start(fold, **settings)
    assert not (target.preprocessed / "active" / f"fold_{fold}").exists()


def test_missing_plans_and_configurations_name_the_command_that_helps(nnunet_folders):
    make_target(nnunet_folders)
    with pytest.raises(MissingInput, match="nnunet_active plan"):
        open_store(NAME, "nnUNetPlans", "3d_fullres")
    with pytest.raises(MissingInput, match="they have 3d_fullres"):
        open_store(NAME, PLANS, "2d")


def test_the_second_stage_of_a_cascade_is_refused(nnunet_folders):
    target = make_target(nnunet_folders)
    file = target.preprocessed / f"{PLANS}.json"
    plans = json.loads(file.read_text())
    plans["configurations"]["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    plans["configurations"]["larger"] = {"inherits_from": "3d_cascade_fullres", "batch_size": 4}
    plans["configurations"]["no_cascade"] = {"inherits_from": "3d_fullres"}
    file.write_text(json.dumps(plans))
    for second_stage in ("3d_cascade_fullres", "larger"):
        with pytest.raises(CampaignError, match=f"{second_stage} is the second stage of a cascade"):
            open_store(NAME, PLANS, second_stage)
    assert open_store(NAME, PLANS, "no_cascade").configuration == "no_cascade"


@pytest.mark.parametrize("wrong", ["{}.nii.gz", "{}_0000", "gone_{}"])
def test_a_split_file_whose_names_fit_no_case_is_refused_with_examples_of_both(nnunet_folders, wrong):
    target = make_target(nnunet_folders, labelled=2, unlabelled=2)
    splits = [{"train": [wrong.format("case_0")], "val": [wrong.format("case_1")]}]
    (target.raw / "splits_final.json").write_text(json.dumps(splits))
    with pytest.raises(
        CampaignError, match=r"names .*case_0.*, but none of them is a case .*case_0, case_1, case_2, case_3"
    ):
        start(oracle="folder")
    assert not (target.preprocessed / "active" / "fold_0" / "campaign.json").exists()


def test_names_of_no_case_and_labelled_cases_in_no_fold_are_listed(nnunet_folders):
    target = make_target(nnunet_folders, labelled=3, unlabelled=1)
    splits = [{"train": ["case_0", "gone_1"], "val": ["case_1", "gone_2"]}]
    (target.raw / "splits_final.json").write_text(json.dumps(splits))
    campaign, said = start(oracle="folder")
    assert campaign.initial == ("case_0",) and campaign.val == ("case_1",)
    assert any("names 2 case(s) that are not there: gone_1, gone_2" in line for line in said)
    assert any("1 labelled case(s) are neither in train nor in val" in line and "case_2" in line for line in said)


def test_a_held_out_case_whose_image_comes_later_is_still_held_out(nnunet_folders):
    target = make_target(nnunet_folders, labelled=2, unlabelled=1)
    splits = [{"train": ["case_0"], "val": ["case_1", "late"]}]
    (target.raw / "splits_final.json").write_text(json.dumps(splits))
    campaign, _ = start(oracle="folder")
    assert campaign.pool(["case_2", "late"]) == ["case_2"] and campaign.unasked(["late"]) == []
    assert campaign.status_of("late") == "excluded"


PAIRS = {"table": {"case_0": "p", "case_1": "p", "case_2": "q", "case_3": "q"}}


def test_other_scans_of_a_held_out_patient_are_never_asked_for(nnunet_folders):
    target = make_target(nnunet_folders, labelled=0, unlabelled=4)
    (target.raw / "splits_final.json").write_text(json.dumps([{"train": [], "val": ["case_3"]}]))
    campaign, _ = start(oracle="folder", groups=PAIRS)
    assert campaign.pool(target.store.identifiers()) == ["case_0", "case_1"]


def test_a_scan_of_a_held_out_patient_that_comes_later_is_never_asked_for_or_trained_on(nnunet_folders):
    target = make_target(nnunet_folders, labelled=1, unlabelled=2)
    (target.raw / "splits_final.json").write_text(json.dumps([{"train": [], "val": ["case_0"]}]))
    late = {"table": {**PAIRS["table"], "late": "p", "later": "another"}}
    campaign, _ = start(oracle="folder", groups=late)
    assert campaign.pool(["case_0", "case_1", "case_2", "late", "later"]) == ["case_2", "later"]
    assert campaign.unasked(["late", "later"]) == ["later"]
    assert campaign.status_of("late") == "excluded" and campaign.never_used(["case_0", "late", "later"]) == {"late"}


def test_a_split_that_tears_a_patient_apart_is_refused(nnunet_folders):
    target = make_target(nnunet_folders, labelled=4, unlabelled=1)
    split = [{"train": ["case_0", "case_2"], "val": ["case_1"]}]
    (target.raw / "splits_final.json").write_text(json.dumps(split))
    with pytest.raises(CampaignError, match="case_0 and holds other scans of the same patients out"):
        start(oracle="folder", groups=PAIRS)
    assert not (target.preprocessed / "active" / "fold_0").exists()


def test_groups_that_name_no_case_are_refused_and_those_that_name_some_are_told_of_the_others(nnunet_folders, capsys):
    target = make_target(nnunet_folders, labelled=0, unlabelled=3)
    with pytest.raises(CampaignError, match="none of the cases of this data set"):
        start(oracle="folder", groups={"table": {"scan_0": "p", "scan_1": "p"}})
    assert not (target.preprocessed / "active" / "fold_0").exists()
    _, said = start(oracle="folder", groups={"table": {"case_0": "p", "case_1": "p"}})
    assert any("does not say whose case_2 is" in line for line in said)


def test_a_campaign_without_groups_says_nothing_of_them(nnunet_folders):
    make_target(nnunet_folders, labelled=2)
    campaign, _ = start("all")
    assert "groups" not in json.loads((campaign.folder / "campaign.json").read_text())["settings"]


def test_the_folds_of_nnunet_keep_a_patient_together(nnunet_folders):
    target = make_target(nnunet_folders, labelled=6)
    groups = {"table": {"case_0": "p", "case_5": "p"}}
    for fold in range(5):
        campaign, _ = start(str(fold), groups=groups)
        assert ("case_0" in campaign.val) == ("case_5" in campaign.val)
        assert {*campaign.val, *campaign.pool(target.store.identifiers())} == {f"case_{i}" for i in range(6)}
