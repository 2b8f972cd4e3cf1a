from __future__ import annotations

import shutil

import numpy as np
import pytest
from tiny_dataset import write_image
from tiny_handoff import SPACING, ask, edit, hand_out
from tiny_target import NAME, PLANS, make_target, truth

from nnunet_active.campaign.campaign_start import start_campaign
from nnunet_active.campaign.place import Place
from nnunet_active.campaign.settings import Settings
from nnunet_active.returned.ingest import ingest
from nnunet_active.util.log import silent


@pytest.fixture
def target(nnunet_folders):
    return make_target(nnunet_folders, labelled=1, unlabelled=3)


@pytest.fixture
def folder(target, tmp_path):
    campaign = start_campaign(Place.of(NAME, "3d_fullres", PLANS, "0"), Settings(budget=3), "folder", log=silent)
    ask(campaign, "case_3", "case_1")
    return hand_out(target, campaign, tmp_path / "handoff")


def doubts() -> dict[str, str]:
    report = ingest(NAME, log=silent)
    assert not report.refused and all(said in report.warnings[case] for case, said in report.doubts.items())
    return report.doubts


def far_away() -> np.ndarray:
    """A label that does not touch the prediction of any case."""
    label = np.zeros_like(truth(0))
    label[:3, :3, :3] = 1
    return label


def test_a_smaller_box_that_misses_the_prediction_may_belong_to_another_scan(folder):
    file = write_image(folder / "case_3" / "case_3.nii.gz", far_away()[:-1], spacing=SPACING)
    said = doubts()
    assert list(said) == ["case_3"] and str(file) in said["case_3"]
    assert "does not touch the prediction" in said["case_3"] and "label of another scan" in said["case_3"]


def test_a_smaller_box_that_meets_the_prediction_and_a_whole_label_that_misses_it_are_no_matter(folder):
    edit(folder, "case_3", truth(3)[:-1])
    edit(folder, "case_1", far_away())
    assert doubts() == {}


def test_an_empty_box_belongs_to_any_scan(folder):
    write_image(folder / "case_3" / "case_3.nii.gz", np.zeros_like(truth(3))[:-1], spacing=SPACING)
    assert doubts() == {}


def test_a_label_that_another_case_has_is_told_when_it_comes_after_that(folder):
    edit(folder, "case_3", truth(2))
    assert doubts() == {}
    edit(folder, "case_1", truth(2), ending=".nrrd")
    assert "is voxel for voxel that of case_3;" in doubts()["case_1"]


def test_two_labels_that_are_exchanged_are_no_twins(folder):
    for case, seed in ("case_1", 2), ("case_3", 1):
        edit(folder, case, truth(seed))
    assert doubts() == {}
    for case, seed in ("case_1", 1), ("case_3", 2):
        edit(folder, case, truth(seed))
    assert doubts() == {}


def test_a_copy_of_a_label_that_was_there_from_the_start_is_told(target, folder):
    shutil.copy(target.raw / "labelsTr" / "case_0.nii.gz", folder / "case_1" / "case_1.nii.gz")
    assert "voxel for voxel that of case_0;" in doubts()["case_1"]
