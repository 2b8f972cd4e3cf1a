"""How a label gets into labelsTr; the whole way is in ``test_ingest`` and ``test_slice_merge``."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
from tiny_dataset import write_image
from tiny_handoff import SPACING, ask, edit, hand_out, voxels
from tiny_target import NAME, PLANS, make_target, truth

from nnunet_active.campaign.campaign_start import start_campaign
from nnunet_active.campaign.place import Place
from nnunet_active.campaign.settings import Settings
from nnunet_active.returned.ingest import ingest
from nnunet_active.returned.ingest_report import IngestReport
from nnunet_active.returned.label_desk import LabelDesk
from nnunet_active.returned.label_finder import LabelFinder
from nnunet_active.util.errors import CampaignError, MissingInput
from nnunet_active.util.log import silent


@pytest.fixture
def target(nnunet_folders):
    return make_target(nnunet_folders, labelled=1, unlabelled=3)


def desk_of(root, target) -> tuple[LabelDesk, LabelFinder]:
    campaign = start_campaign(Place.of(NAME, "3d_fullres", PLANS, "0"), Settings(budget=3), "folder", log=silent)
    ask(campaign, "case_3", "case_1")
    edit(hand_out(target, campaign, root / "handoff"), "case_3")
    report = IngestReport()
    finder = LabelFinder(campaign, [], [], report)
    return LabelDesk(campaign, finder, report, silent), finder


def test_a_delivery_is_laid_into_labelstr_once_and_changes_nothing_of_the_campaign(nnunet_folders, target):
    desk, finder = desk_of(nnunet_folders, target)
    labels = finder.look()
    assert list(desk.deliver(labels)) == ["case_3"] and desk.campaign.waiting() == ["case_3", "case_1"]
    file = target.raw / "labelsTr" / "case_3.nii.gz"
    np.testing.assert_array_equal(voxels(file), truth(3))
    written = file.stat().st_ino
    desk.deliver(labels)
    assert file.stat().st_ino == written and not desk.kept.exists()


def test_what_lay_in_labelstr_is_kept(nnunet_folders, target):
    desk, finder = desk_of(nnunet_folders, target)
    labels = finder.look()
    other = write_image(target.raw / "labelsTr" / "case_3.nii.gz", np.flip(truth(3), 0), spacing=SPACING).read_bytes()
    desk.deliver(labels)
    assert [file.read_bytes() for file in desk.kept.glob("case_3__*")] == [other]


def test_a_case_that_nobody_waits_for_cannot_be_declined(nnunet_folders, target):
    desk, _ = desk_of(nnunet_folders, target)
    with pytest.raises(CampaignError, match="--decline case_2: no label is waited for"):
        desk.check_arguments({"case_2": ""})


@pytest.mark.parametrize("name", ["elsewhere/scan.nrrd", "nnUNet_raw/labels/scan.nii.gz", "in labelsTr/case_0.nrrd"])
def test_a_correction_of_a_label_that_dataset_json_lists_is_trained_on_and_a_file_of_another_format_stays(
    nnunet_folders, target, name
):
    listed = nnunet_folders / name
    if name.startswith("in labelsTr"):
        listed = target.raw / "labelsTr" / listed.name
    own = target.raw / "labelsTr" / "case_0.nii.gz"
    listed.parent.mkdir(exist_ok=True)
    sitk.WriteImage(sitk.ReadImage(str(own)), str(listed), True)
    own.unlink()
    description = json.loads((target.raw / "dataset.json").read_text())
    images = [f"imagesTr/case_0_{channel:04d}.nii.gz" for channel in range(3)]
    description["dataset"] = {"case_0": {"images": images, "label": str(listed)}}
    (target.raw / "dataset.json").write_text(json.dumps(description))
    target.preprocess()
    campaign = start_campaign(Place.of(NAME, "3d_fullres", PLANS, "0"), Settings(budget=3), "folder", log=silent)
    before, corrected = listed.read_bytes(), truth(0)
    corrected[12, 3:6, 3:6] = 1
    write_image(nnunet_folders / "back" / "case_0.nii.gz", corrected, spacing=SPACING)
    report = ingest(NAME, "0", [nnunet_folders / "back"], log=silent)
    assert list(report.corrected) == ["case_0"] and not report.refused
    used = target.preprocessed / "gt_segmentations" / "case_0.nii.gz"
    native = name.endswith(".nii.gz")
    for file in (used, listed if native else own):
        np.testing.assert_array_equal(voxels(file), corrected)
    assert (listed.read_bytes() == before) == (not native) and own.exists() == (not native)
    assert native == (not any(str(listed) in said for said in report.warnings.get("case_0", [])))
    (kept,) = (campaign.folder / "replaced_labels").glob("case_0__*")
    np.testing.assert_array_equal(voxels(kept), truth(0))
    again = ingest(NAME, "0", log=silent)
    assert not again.refused and not again.corrected and not again.taken
    target.preprocess()
    np.testing.assert_array_equal(voxels(used), corrected)


def test_a_label_of_another_format_that_was_corrected_does_not_come_back_until_somebody_saves_it_again(
    nnunet_folders, target
):
    own = target.raw / "labelsTr" / "case_0.nii.gz"
    other = own.with_name("case_0.nrrd")
    sitk.WriteImage(sitk.ReadImage(str(own)), str(other), True)
    own.unlink()
    target.preprocess()
    start_campaign(Place.of(NAME, "3d_fullres", PLANS, "0"), Settings(budget=3), "folder", log=silent)
    write_image(nnunet_folders / "back" / "case_0.nii.gz", truth(5), spacing=SPACING)
    assert list(ingest(NAME, "0", [nnunet_folders / "back"], log=silent).corrected) == ["case_0"]
    assert not ingest(NAME, "0", log=silent).corrected
    np.testing.assert_array_equal(voxels(own), truth(5))
    write_image(other, truth(7), spacing=SPACING)
    assert list(ingest(NAME, "0", log=silent).corrected) == ["case_0"]
    np.testing.assert_array_equal(voxels(own), truth(7))


def test_a_file_in_place_of_a_folder_is_said_with_the_folder_to_name(nnunet_folders, target):
    desk, finder = desk_of(nnunet_folders, target)
    file = nnunet_folders / "came" / "case_3.nii.gz"
    file.parent.mkdir()
    file.write_bytes(b"x")
    finder.folders = [file]
    with pytest.raises(MissingInput, match=r"case_3\.nii\.gz is a file; name the folder that it lies in, .*came"):
        desk.check_arguments({})
