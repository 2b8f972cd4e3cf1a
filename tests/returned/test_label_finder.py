from __future__ import annotations

import json
import os

import numpy as np
import SimpleITK as sitk
from tiny_dataset import write_image
from tiny_handoff import ask, edit, hand_out
from tiny_target import NAME, PLANS, make_target, truth

from nnunet_active.annotation.records import voxel_digest
from nnunet_active.campaign.campaign_start import start_campaign
from nnunet_active.campaign.place import Place
from nnunet_active.campaign.settings import Settings
from nnunet_active.data.preprocessing import preprocess_case
from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.returned.ingest_report import IngestReport
from nnunet_active.returned.label_finder import LabelFinder
from nnunet_active.util.log import silent


def asked(root, *picks):
    target = make_target(root, labelled=1, unlabelled=3)
    campaign = start_campaign(Place.of(NAME, "3d_fullres", PLANS, "0"), Settings(budget=3), "folder", log=silent)
    ask(campaign, *picks)
    return target, campaign, hand_out(target, campaign, root / "handoff", slicer=True)


def test_looking_finds_what_was_edited_and_writes_nothing(nnunet_folders):
    target, campaign, folder = asked(nnunet_folders, "case_3", "case_1")
    file = edit(folder, "case_3")
    before = {path: path.stat().st_mtime_ns for path in target.root.rglob("*")}
    report = IngestReport()
    (label,) = LabelFinder(campaign, [], [], report).look().values()
    assert label.file == file and label.digest == voxel_digest(truth(3))
    assert set(label.files) == {
        str(file),
        str(file.with_name("case_3.seg.nrrd")),
    }  # so that a later change of either is noticed
    assert list(report.untouched) == ["case_1"]
    assert {path: path.stat().st_mtime_ns for path in target.root.rglob("*")} == before


def test_labels_that_are_as_they_were_preprocessed_are_not_read_again(nnunet_folders):
    target, campaign, _ = asked(nnunet_folders, "case_3")
    file = target.raw / "labelsTr" / "case_0.nii.gz"
    state = file.stat()
    file.write_bytes(b"x" * state.st_size)  # would be refused if it were read
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    report = IngestReport()
    assert LabelFinder(campaign, [], [], report).look() == {} and report.refused == {}
    os.utime(file)
    LabelFinder(campaign, [], [], report).look()
    assert "case_0" in report.refused


def test_a_label_of_an_image_that_was_exported_again_in_another_size_is_refused_and_not_taken_for_a_crop(
    nnunet_folders,
):
    target, campaign, folder = asked(nnunet_folders, "case_3", "case_1")
    edit(folder, "case_3")
    for channel in range(2):
        image = target.raw / "imagesTr" / f"case_3_{channel:04d}.nii.gz"
        before = sitk.ReadImage(str(image))
        array = sitk.GetArrayFromImage(before)
        write_image(
            image, np.pad(array, ((0, 2), (0, 0), (0, 0))), spacing=before.GetSpacing(), origin=before.GetOrigin()
        )
    report = IngestReport()
    assert LabelFinder(campaign, [], [], report).look() == {}
    assert "lies on the image as it was handed over" in report.refused["case_3"]


def test_a_case_that_was_asked_for_and_whose_images_are_gone_is_named(nnunet_folders):
    target, campaign, folder = asked(nnunet_folders, "case_3", "case_1")
    edit(folder, "case_3")
    for image in target.raw.glob("imagesTr/case_3_*"):
        image.unlink()
    report = IngestReport()
    assert LabelFinder(campaign, [], [], report).look() == {}
    assert "Case case_3 was asked for, but its images are not in" in report.refused["case_3"]
    assert "--decline case_3" in report.refused["case_3"]


def test_a_class_that_was_added_after_planning_is_named_beside_the_refusal(nnunet_folders):
    target, campaign, folder = asked(nnunet_folders, "case_3")
    edit(folder, "case_3", np.where(truth(3) > 0, 3, 0).astype(np.uint8))
    described = json.loads((target.raw / "dataset.json").read_text())
    described["labels"]["cyst"] = 3
    (target.raw / "dataset.json").write_text(json.dumps(described))
    report = IngestReport()
    assert LabelFinder(campaign, [], [], report).look() == {}
    assert "has the value(s) 3" in report.refused["case_3"] and any("cyst (3) is new" in note for note in report.notes)


def test_a_label_from_the_start_in_another_format_is_known_and_not_taken_over_again(nnunet_folders):
    target = make_target(nnunet_folders, labelled=1, unlabelled=1)
    file = target.raw / "labelsTr" / "case_0.nii.gz"
    sitk.WriteImage(sitk.ReadImage(str(file)), str(file.with_name("case_0.mha")))
    file.unlink()
    raw = RawDataset(target.raw)
    preprocess_case(raw.cases["case_0"], target.store, raw.dataset_json)
    campaign = start_campaign(Place.of(NAME, "3d_fullres", PLANS, "0"), Settings(budget=1), "folder", log=silent)
    assert campaign.initial == ("case_0",)
    report = IngestReport()
    assert LabelFinder(campaign, [], [], report).look() == {} and report.refused == {}
