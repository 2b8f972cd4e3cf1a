from __future__ import annotations

import json

import pytest
from tiny_dataset import write_image
from tiny_target import NAME, PLANS, make_target, truth

from nnunet_active.campaign.campaign_start import start_campaign
from nnunet_active.campaign.place import Place
from nnunet_active.campaign.settings import Settings
from nnunet_active.data.ignore_label import declare_ignore_label
from nnunet_active.data.partial_labels import keep_slices
from nnunet_active.doctor.doctor_dataset import examine_dataset
from nnunet_active.util.log import silent

CHECK = "partly labelled cases"
SETTINGS = Settings(strategy="random", oracle="folder", budget=2, stride=1, epochs=4)


@pytest.fixture
def target(nnunet_folders):
    """Two labelled cases, one of them in part, and one without a label."""
    target = make_target(nnunet_folders, labelled=2, unlabelled=1)
    declare_ignore_label(target.raw, target.preprocessed)
    label = keep_slices(truth(1), 0, [4, 9], 3)
    write_image(target.raw / "labelsTr" / "case_1.nii.gz", label, spacing=(1.5, 1.5, 1.5))
    target.preprocess()
    return target


def found(state: str) -> list[str]:
    checks = examine_dataset("902", "3d_fullres", PLANS, "0")
    return [f"{check.found} {check.advice}" for check in checks if check.name == CHECK and check.state == state]


def test_partly_labelled_cases_are_named(target):
    assert found("ok") == ["case_1 "] and found("warning") == []


def test_without_an_ignore_label_nothing_is_said_and_with_one_that_no_label_holds_none(nnunet_folders):
    target = make_target(nnunet_folders, labelled=1, unlabelled=1)
    assert found("ok") == []
    declare_ignore_label(target.raw, target.preprocessed)
    assert found("ok") == ["none "]


def test_what_stock_preprocessing_makes_of_the_ignore_value_is_said_where_a_mask_counts(target):
    file = target.preprocessed / f"{PLANS}.json"
    plans = json.loads(file.read_text())
    plans["configurations"]["3d_fullres"]["use_mask_for_norm"] = [False, True, True]
    file.write_text(json.dumps(plans))
    (said,) = found("warning")
    assert said.startswith("FLAIR, T1ce: ") and "nnUNetv2_preprocess takes the ignore value for body" in said
    assert "Preprocess with nnunet_active preprocess -d 902" in said


def test_a_held_out_case_is_better_labelled_as_a_whole(target):
    splits = [{"train": ["case_0"], "val": ["case_1"]}]
    (target.preprocessed / "splits_final.json").write_text(json.dumps(splits))
    start_campaign(Place.of(NAME, "3d_fullres", PLANS, "0"), SETTINGS, log=silent)
    (said,) = found("warning")
    assert "case_1" in said and "Label held-out cases as a whole." in said


def test_a_campaign_that_asks_for_slices_gives_the_advice_where_it_begins(target):
    splits = [{"train": [], "val": ["case_0"]}]
    (target.preprocessed / "splits_final.json").write_text(json.dumps(splits))
    said: list[str] = []
    in_slices = Settings(strategy="random", unit="slice", budget=2, query_size=2)
    start_campaign(Place.of(NAME, "3d_fullres", PLANS, "0"), in_slices, "folder", log=said.append)
    assert any(line.startswith("Label held-out cases as a whole") for line in said)
