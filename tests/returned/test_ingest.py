from __future__ import annotations

import csv
import json
import multiprocessing
import os
import re
import shutil
import time

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from killed_process import killed_after, killed_before_rename, needs_fork
from tiny_dataset import write_image
from tiny_dicom import contours_of, write_dicom, write_structure_set
from tiny_handoff import SEGMENTS, SPACING, ask, edit, hand_out, predicted, voxels
from tiny_mitk import accept
from tiny_nrrd import write_segmentation
from tiny_target import NAME, PLANS, make_target, truth

from nnunet_active.annotation.archive import Archive
from nnunet_active.annotation.handoff import write_handoff
from nnunet_active.annotation.records import HandoffCase, voxel_digest
from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_start import start_campaign
from nnunet_active.campaign.place import Place
from nnunet_active.campaign.settings import Settings
from nnunet_active.cli.main import main
from nnunet_active.data.geometry import Geometry
from nnunet_active.data.preprocessing import preprocess_case
from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.data.replaced_labels import REPLACED_LABELS
from nnunet_active.returned.found_labels import note_labels
from nnunet_active.returned.ingest import ingest
from nnunet_active.util.errors import CampaignError, MissingInput
from nnunet_active.util.log import silent


@pytest.fixture
def target(nnunet_folders):
    made = make_target(nnunet_folders, labelled=1, unlabelled=4)
    start_campaign(Place.of(NAME, "3d_fullres", PLANS, "0"), Settings(budget=3), "folder", log=silent)
    return made


@pytest.fixture
def folder(target, tmp_path):
    """The hand-off folder of a round that asked for case_3, case_1 and case_2."""
    campaign = campaign_of(target)
    ask(campaign, "case_3", "case_1", "case_2")
    return hand_out(target, campaign, tmp_path / "handoff", slicer=True)


def campaign_of(target) -> Campaign:
    return Campaign.open(target.preprocessed, "0")


def take(*folders, **how):
    return ingest(NAME, "0", folders, log=silent, **how)


def label_of(target, case: str) -> np.ndarray:
    return voxels(target.raw / "labelsTr" / f"{case}.nii.gz")


def train_of(target) -> list[str]:
    return json.loads((target.preprocessed / "splits_final.json").read_text())[0]["train"]


def content(folder) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_finished_labels_are_taken_back_and_the_untouched_ones_go_on_waiting(target, folder):
    edit(folder, "case_3")
    edit(folder, "case_2", ending=".seg.nrrd")
    before = content(folder)
    report = take()
    assert list(report.taken) == ["case_3", "case_2"] and not report.refused
    assert [file.rpartition("/")[2] for file in report.untouched["case_1"]] == ["case_1.nii.gz", "case_1.seg.nrrd"]
    assert report.waiting == ["case_1"] == campaign_of(target).waiting()
    for case in ("case_2", "case_3"):
        np.testing.assert_array_equal(label_of(target, case), truth(int(case[-1])))
    assert target.store.labelled_identifiers() == ["case_0", "case_2", "case_3"]
    assert train_of(target) == ["case_0", "case_2", "case_3"]
    assert content(folder) == before  # an annotator's files are only read
    assert "case_2.seg.nrrd" in report.taken["case_2"]["file"]


def test_the_facts_say_how_much_the_annotator_changed(target, folder):
    edit(folder, "case_3")
    facts = take().taken["case_3"]
    label, guess = truth(3), predicted("case_3")
    for name, value in (("oedema", 1), ("core", 2)):
        both = np.count_nonzero((label == value) & (guess == value))
        assert facts["dice"][name] == 2 * both / (np.count_nonzero(label == value) + np.count_nonzero(guess == value))
        assert facts["volume_label_mm3"][name] == pytest.approx(np.count_nonzero(label == value) * 1.5**3)
    assert facts["changed_voxels"] == np.count_nonzero(label != guess)
    assert facts["digest"] == voxel_digest(label) and facts["corrections"] == 0
    assert campaign_of(target).ingested["case_3"] == facts


def test_a_second_run_finds_nothing_and_changes_nothing(target, folder):
    edit(folder, "case_3")
    take()
    before = content(target.root)
    report = take()
    assert not report.taken and not report.corrected and not report.refused and not report.warnings
    assert content(target.root) == before


def test_an_unchanged_prediction_is_taken_where_the_annotator_says_that_it_is_right(target, folder):
    report = take(accept_unchanged=["case_1"])
    assert list(report.taken) == ["case_1"] and report.taken["case_1"]["dice"] == {"oedema": 1.0, "core": 1.0}
    np.testing.assert_array_equal(label_of(target, "case_1"), predicted("case_1"))
    assert campaign_of(target).waiting() == ["case_3", "case_2"]


def test_an_unchanged_prediction_is_known_by_the_archive_too(target, folder, tmp_path):
    """Where the hand-off folder's own record was lost, or the prediction was copied into labelsTr by hand."""
    (folder / "handoff.json").unlink()
    write_image(target.raw / "labelsTr" / "case_1.nii.gz", predicted("case_1").astype(np.float32), spacing=SPACING)
    report = take()
    assert not report.taken and sorted(report.untouched) == ["case_1", "case_2", "case_3"]


def test_a_label_put_into_labelstr_by_hand_is_taken_up_where_it_is(target, folder):
    file = target.label("case_2", 2)
    before = file.read_bytes()
    assert list(take().taken) == ["case_2"]
    assert file.read_bytes() == before
    assert train_of(target) == ["case_0", "case_2"]


def test_labels_from_another_folder_in_any_format_also_of_cases_that_nobody_asked_for(target, folder, tmp_path):
    came = tmp_path / "came back"
    write_image(came / "monday" / "case_3.mha", truth(3).astype(np.float32), spacing=SPACING)
    edit(came, "case_4", ending=".seg.nrrd")
    (came / "case_9.nii.gz").write_bytes(b"")
    report = take(came)
    assert list(report.taken) == ["case_3", "case_4"]
    assert report.unknown == [str(came / "case_9.nii.gz")]
    assert train_of(target) == ["case_0", "case_3", "case_4"]
    assert report.taken["case_4"]["changed_voxels"] is None  # nothing was predicted for it


def test_a_correction_is_noticed_and_the_label_it_replaces_is_kept(target, folder):
    edit(folder, "case_3")
    take()
    first = target.raw / "labelsTr" / "case_3.nii.gz"
    older = first.read_bytes()
    better = truth(3)
    better[0, 0, 0] = 2
    edit(folder, "case_3", better, ".seg.nrrd")  # in the other file; the first one stays as it was taken
    report = take()
    assert list(report.corrected) == ["case_3"] and not report.taken
    assert report.corrected["case_3"]["corrections"] == 1
    np.testing.assert_array_equal(label_of(target, "case_3"), better)
    np.testing.assert_array_equal(voxels(target.preprocessed / "gt_segmentations" / "case_3.nii.gz"), better)
    kept = list((target.preprocessed / "active" / "fold_0" / REPLACED_LABELS).glob("case_3__*"))
    assert [file.read_bytes() for file in kept] == [older]
    _, seg, _, _ = dataset_of(target).load_case("case_3")
    assert 2 in seg[0, 0, 0, 0]


def dataset_of(target):
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    return nnUNetDatasetBlosc2(str(target.store.folder))


def test_a_label_that_was_changed_in_labelstr_is_taken_over_and_the_older_one_is_kept(target, folder):
    edit(folder, "case_3")
    take()
    for case, corrections in (
        ("case_3", 1),
        ("case_0", 1),
    ):  # one that was taken back, and one that was there from the start
        older = (target.raw / "labelsTr" / f"{case}.nii.gz").read_bytes()
        better = truth(int(case[-1]))
        better[1, 1, 1] = 1
        write_image(target.raw / "labelsTr" / f"{case}.nii.gz", better, spacing=SPACING)
        report = take()
        assert list(report.corrected) == [case]
        assert campaign_of(target).ingested[case]["corrections"] == corrections
        kept = list((target.preprocessed / "active" / "fold_0" / REPLACED_LABELS).glob(f"{case}__*"))
        assert [file.read_bytes() for file in kept] == [older]
        assert not take().corrected
    assert train_of(target) == ["case_0", "case_3"]


def test_a_label_that_was_corrected_and_preprocessed_before_ingest_is_kept_too(target, folder):
    edit(folder, "case_3")
    take()
    file = target.raw / "labelsTr" / "case_3.nii.gz"
    older = file.read_bytes()
    write_image(file, np.roll(truth(3), 1, axis=1), spacing=SPACING)
    assert main(["preprocess", "-d", "902", "-c", target.configuration, "-np", "1"]) == 0
    assert list(take().corrected) == ["case_3"]
    kept = list((target.preprocessed / "active" / "fold_0" / REPLACED_LABELS).glob("case_3__*"))
    assert [one.read_bytes() for one in kept] == [older]


@pytest.mark.parametrize("refused", [False, True])
def test_what_lies_in_labelstr_is_kept_when_it_is_replaced_though_its_preprocessed_copy_is_missing(
    target, folder, refused
):
    edit(folder, "case_3")
    take()
    file = target.raw / "labelsTr" / "case_3.nii.gz"
    if refused:
        write_image(file, np.full_like(truth(3), 77), spacing=SPACING)
        assert "case_3" in take().refused
    (target.preprocessed / "gt_segmentations" / "case_3.nii.gz").unlink()
    older = file.read_bytes()
    edit(folder, "case_3", np.roll(truth(3), 1, axis=1))
    report = take()
    assert list(report.corrected) == ["case_3"] and not report.refused, report
    kept = list((target.preprocessed / "active" / "fold_0" / REPLACED_LABELS).glob("case_3__*"))
    assert [one.read_bytes() for one in kept] == [older]


def test_a_file_that_was_only_saved_again_is_no_correction(target, folder):
    edit(folder, "case_3")
    take()
    for file in (folder / "case_3" / "case_3.nii.gz", target.raw / "labelsTr" / "case_3.nii.gz"):
        os.utime(file, (2e9, 2e9))
    report = take()
    assert not report.corrected and not report.refused
    assert not list((target.preprocessed / "active" / "fold_0" / REPLACED_LABELS).glob("case_*"))


def test_two_finished_labels_that_differ_are_refused_until_one_is_chosen(target, folder):
    edit(folder, "case_3")
    edit(folder, "case_3", np.flip(truth(3), 1), ".seg.nrrd")
    report = take()
    assert "case_3 has 2 finished labels that differ" in report.refused["case_3"]
    assert not (target.raw / "labelsTr" / "case_3.nii.gz").exists() and not report.taken
    (folder / "case_3" / "case_3.seg.nrrd").unlink()
    assert list(take().taken) == ["case_3"]


def test_a_refused_label_leaves_everything_as_it_was_and_the_others_go_on(target, folder):
    wrong = truth(3)
    wrong[0, 0, 0] = 9
    edit(folder, "case_3", wrong)
    write_image(folder / "case_1" / "case_1.nii.gz", truth(1), spacing=(1.5, 1.5, 1.6))
    edit(folder, "case_2")
    before = content(folder)
    report = take()
    assert list(report.taken) == ["case_2"]
    assert "value(s) 9" in report.refused["case_3"] and "does not lie on the voxel grid" in report.refused["case_1"]
    assert sorted(file.name for file in (target.raw / "labelsTr").iterdir()) == ["case_0.nii.gz", "case_2.nii.gz"]
    assert content(folder) == before and report.waiting == ["case_3", "case_1"]


def test_an_empty_label_is_taken_and_said(target, folder):
    edit(folder, "case_3", np.zeros_like(truth(3)))
    report = take()
    assert list(report.taken) == ["case_3"]
    assert "marks no foreground" in report.warnings["case_3"][0]
    assert report.taken["case_3"]["dice"] == {"oedema": 0.0, "core": 0.0}


def test_a_case_that_nobody_can_label_is_declined(target, folder):
    report = take(decline={"case_1": "the scan is of a phantom"})
    assert report.declined == ["case_1"] and report.waiting == ["case_3", "case_2"]
    assert campaign_of(target).declined == {"case_1": "the scan is of a phantom"}
    with pytest.raises(
        CampaignError, match="--decline case_1: no label is waited for; waiting in fold 0: case_3, case_2"
    ):
        take(decline={"case_1": ""})


def test_a_declined_case_can_get_another_reason_later(target, folder):
    take(decline={"case_1": ""})
    assert take(decline={"case_1": "the scan is of a phantom"}).declined == ["case_1"]
    assert campaign_of(target).declined == {"case_1": "the scan is of a phantom"}


def test_wrong_names_are_said_before_anything_is_done(target, folder, tmp_path):
    edit(folder, "case_3")
    before = content(target.root)
    with pytest.raises(MissingInput, match=r"--from .*nowhere was not found"):
        take(tmp_path / "nowhere")
    with pytest.raises(CampaignError, match="--accept-unchanged case_9"):
        take(accept_unchanged=["case_9"])
    assert content(target.root) == before


def test_while_a_training_holds_the_campaign_labels_are_laid_where_it_finds_them(target, folder):
    edit(folder, "case_3")
    with campaign_of(target).lock():
        report = take()
        assert report.delivered == ["case_3"] and "in use by process" in report.notes[0]
        with pytest.raises(CampaignError, match="in use"):
            take(decline={"case_1": ""})
    np.testing.assert_array_equal(label_of(target, "case_3"), truth(3))
    assert campaign_of(target).waiting() == ["case_3", "case_1", "case_2"]
    assert list(take().taken) == ["case_3"]
    edit(folder, "case_2")
    with campaign_of(target).lock(), pytest.raises(CampaignError, match="in use"):
        take(decline={"case_1": ""})
    assert not (target.raw / "labelsTr" / "case_2.nii.gz").exists()  # a command that failed has done nothing


@pytest.mark.parametrize("during_training", [True, False])
def test_a_label_that_takes_the_place_of_one_that_nobody_took_up_yet_says_so(target, folder, tmp_path, during_training):
    first = edit(tmp_path / "one", "case_3").read_bytes()
    second = np.roll(truth(3), 1, axis=1)
    edit(tmp_path / "other", "case_3", second)
    file = target.raw / "labelsTr" / "case_3.nii.gz"
    if during_training:
        with campaign_of(target).lock():
            assert not take(tmp_path / "one").warnings
            report = take(tmp_path / "other")
            assert report.delivered == ["case_3"]
    else:
        file.write_bytes(first)
        report = take(tmp_path / "other")
    (said,) = report.warnings["case_3"]
    (kept,) = (target.preprocessed / "active" / "fold_0" / REPLACED_LABELS).glob("case_3__*")
    assert f"another label lay in {file} and was not ingested yet" in said and str(kept) in said
    np.testing.assert_array_equal(voxels(kept), truth(3))
    np.testing.assert_array_equal(label_of(target, "case_3"), second)
    take()
    edit(tmp_path / "third", "case_3")
    report = take(tmp_path / "third")  # a correction of one that was taken up
    assert list(report.corrected) == ["case_3"] and not report.warnings


def test_a_hand_off_folder_that_was_moved_is_said_and_found_with_from(target, folder, tmp_path):
    edit(folder, "case_3")
    folder.rename(tmp_path / "elsewhere")
    assert "name its new place with --from" in take().notes[0]
    report = take(tmp_path / "elsewhere")
    assert list(report.taken) == ["case_3"] and sorted(report.untouched) == ["case_1", "case_2"]


def test_a_retrospective_campaign_reveals_what_it_asked_for_and_nothing_else(nnunet_folders, tmp_path):
    target = make_target(nnunet_folders, labelled=6)
    campaign = start_campaign(Place.of(NAME, "3d_fullres", PLANS, "0"), Settings(budget=3), log=silent)
    asked = campaign.pool(target.store.identifiers())[0]
    ask(campaign, asked)
    withheld = [file for file in (target.raw / "labelsTr").iterdir() if file.name != f"{asked}.nii.gz"]
    for file in withheld:
        file.write_bytes(b"poison")
    report = take()
    assert list(report.taken) == [asked] and train_of(target) == [asked]
    with pytest.raises(CampaignError, match="retrospective"):
        take(tmp_path)


def test_a_retrospective_campaign_names_a_case_whose_label_has_gone_and_takes_up_the_others(nnunet_folders):
    target = make_target(nnunet_folders, labelled=6)
    campaign = start_campaign(Place.of(NAME, "3d_fullres", PLANS, "0"), Settings(budget=3), log=silent)
    gone, there = campaign.pool(target.store.identifiers())[:2]
    ask(campaign, gone, there)
    (target.raw / "labelsTr" / f"{gone}.nii.gz").unlink()
    report = take()
    assert list(report.taken) == [there] and f"labelsTr/{gone}.nii.gz is not there any more" in report.refused[gone]
    target.label(gone)
    assert list(take().taken) == [gone]


def test_there_has_to_be_a_campaign(nnunet_folders):
    make_target(nnunet_folders, labelled=1)
    with pytest.raises(MissingInput, match="There is no campaign for fold 0"):
        take()


def logits_of(label: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack([label == value for value in range(3)]).astype(np.float32)) * 20


def real_handoff(target, folder):
    """Of case_3 and case_1, as ``annotate`` writes it."""
    campaign, raw = campaign_of(target), RawDataset(target.raw)
    ask(campaign, "case_3", "case_1")
    cases = [HandoffCase(raw.cases[case], "T1", rank) for rank, case in enumerate(("case_3", "case_1"), 1)]
    said = write_handoff(
        folder,
        cases,
        Archive(
            campaign.predictions_folder(1),
            target.store,
            raw.dataset_json,
            lambda image: logits_of(np.resize(truth(0), image.shape[1:])),
        ),
        log=silent,
    )
    assert not said.problems
    with campaign.lock():
        campaign.record_handoff(1, folder)
    return folder


@pytest.mark.parametrize("ending", [".nii.gz", ".seg.nrrd"])
def test_what_the_real_hand_off_folder_holds_is_known_as_untouched_and_an_edit_of_either_file_is_taken(
    target, tmp_path, ending
):
    folder = real_handoff(target, tmp_path / "handoff")
    report = take()
    assert list(report.untouched) == ["case_3", "case_1"] and not report.taken and not report.refused
    file = folder / "case_3" / f"case_3{ending}"
    image = sitk.ReadImage(str(file))
    array = sitk.GetArrayFromImage(image)
    array[0, 0, 0] = 2  # as the annotator's program saves it, with the file's own header
    edited = sitk.GetImageFromArray(array)
    edited.CopyInformation(image)
    for key in image.GetMetaDataKeys():
        if key.startswith("Segment"):
            edited.SetMetaData(key, image.GetMetaData(key))
    sitk.WriteImage(edited, str(file), True)
    report = take()
    assert list(report.taken) == ["case_3"] and list(report.untouched) == ["case_1"]
    assert report.taken["case_3"]["changed_voxels"] == 1 and label_of(target, "case_3")[0, 0, 0] == 2


def test_what_was_accepted_in_mitk_is_a_checked_label_changed_or_not(target, tmp_path):
    folder = real_handoff(target, tmp_path / "handoff")
    handed = voxels(folder / "case_3" / "case_3.nii.gz")
    result = accept(folder, "case_3")
    edited = voxels(folder / "case_1" / "case_1.nii.gz")
    edited[0, 0, :3] = 2
    # as MITK numbers and groups them after a while
    groups = np.stack([np.where(edited == 1, 7, 0), np.where(edited == 2, 8, 0)])
    accept(folder, "case_1", groups, [[(7, "oedema")], [(8, "core")]])
    report = take()
    assert list(report.taken) == ["case_3", "case_1"] and not report.untouched and not report.warnings
    assert report.taken["case_3"]["changed_voxels"] == 0 and report.taken["case_3"]["file"] == str(result)
    assert report.taken["case_1"]["changed_voxels"] == 3
    np.testing.assert_array_equal(label_of(target, "case_3"), handed)
    np.testing.assert_array_equal(label_of(target, "case_1"), edited)
    again = take()
    assert not again.taken and not again.corrected and not again.warnings


def test_a_copy_of_the_prediction_in_the_folder_of_accepted_ones_is_accepted_too(target, tmp_path):
    folder = real_handoff(target, tmp_path / "handoff")
    shutil.copy(folder / "case_3" / "case_3.nii.gz", folder / "case_3" / "accepted")
    report = take(folder)
    assert list(report.taken) == ["case_3"] and list(report.untouched) == ["case_1"]


def test_what_is_accepted_in_one_program_and_edited_in_another_has_to_be_decided(target, tmp_path):
    folder = real_handoff(target, tmp_path / "handoff")
    result = accept(folder, "case_3")
    file = edit(folder, "case_3", np.zeros_like(truth(3)))
    report = take()
    assert not report.taken and str(result) in report.refused["case_3"] and str(file) in report.refused["case_3"]


@pytest.mark.parametrize("name", ["case_3_reader.seg.nrrd", "case_3(1).seg.nrrd", "case_3_0000_label.nrrd"])
def test_what_modules_of_slicer_save_beside_the_segmentation_of_the_case_list_is_taken(target, tmp_path, name):
    folder = real_handoff(target, tmp_path / "handoff")
    with (folder / "cases.csv").open(newline="") as content:
        row = next(row for row in csv.DictReader(content) if row["ID"] == "case_3")
    image = sitk.ReadImage(str(folder / row["image"]))
    label = truth(3)
    write_segmentation(folder / "case_3" / name, label, SEGMENTS, image.GetSpacing(), image.GetOrigin())
    report = take(folder)
    assert list(report.taken) == ["case_3"] and report.unknown == []
    np.testing.assert_array_equal(label_of(target, "case_3"), label)


def test_a_dicom_segmentation_is_a_label_like_any_other(target, tmp_path):
    folder = real_handoff(target, tmp_path / "handoff")
    space, label = Geometry.of_file(folder / "case_3" / "case_3_0000.nii.gz"), truth(3)
    masks = np.stack([label == 1, label == 2])
    write_dicom(tmp_path / "own" / "case_3.dcm", masks, ["oedema", "core"], space.affine)
    write_dicom(tmp_path / "own" / "export.dcm", masks, ["oedema", "core"], space.affine)
    report = take(tmp_path / "own")
    assert list(report.taken) == ["case_3"] and report.unknown == [str(tmp_path / "own" / "export.dcm")]
    np.testing.assert_array_equal(label_of(target, "case_3"), label)


def test_a_dicom_structure_set_is_a_label_like_any_other(target, tmp_path):
    folder = real_handoff(target, tmp_path / "handoff")
    space, label = Geometry.of_file(folder / "case_3" / "case_3_0000.nii.gz"), truth(3)
    drawn = [(name, contours_of(label == value, space.affine)) for value, name in enumerate(["oedema", "core"], 1)]
    write_structure_set(tmp_path / "own" / "case_3.dcm", drawn)
    write_structure_set(tmp_path / "own" / "RS.dcm", drawn)
    report = take(tmp_path / "own")
    assert list(report.taken) == ["case_3"] and report.unknown == [str(tmp_path / "own" / "RS.dcm")]
    np.testing.assert_array_equal(label_of(target, "case_3"), label)


def test_what_nobody_accepted_in_mitk_yet_waits_and_is_named(target, tmp_path):
    folder = real_handoff(target, tmp_path / "handoff")
    interim = accept(folder, "case_3", np.zeros_like(truth(3)), name="case_3.interim.nrrd")
    report = take(folder)
    assert not report.taken and "case_3" in report.waiting and report.unknown == []
    assert report.warnings["case_3"] == [
        f"Case case_3: {interim} is not accepted in MITK yet, so that it is not taken."
    ]
    accept(folder, "case_3")
    report = take(folder)
    assert list(report.taken) == ["case_3"] and "case_3" not in report.warnings


def test_a_prediction_that_nobody_edited_is_no_matter_where_the_label_came_from_elsewhere(target, folder, tmp_path):
    write_image(tmp_path / "own" / "case_3.mha", truth(3), spacing=SPACING)
    assert list(take(tmp_path / "own").taken) == ["case_3"]
    assert take().warnings == {}


def test_an_edited_file_that_is_the_prediction_again_is_a_warning_and_the_label_stays(target, folder):
    file = folder / "case_3" / "case_3.nii.gz"
    handed = file.read_bytes()
    edit(folder, "case_3")
    take()
    file.write_bytes(handed)
    (sentences,) = take().warnings.values()
    assert "case_3.nii.gz is the untouched prediction again" in sentences[0]
    assert (label_of(target, "case_3") == truth(3)).all()


# ---- kills ------------------------------------------------------------------------------------------------------------------


def state_of(target) -> dict:
    """All that has to be the same in the end; times are not."""
    campaign = campaign_of(target)
    kept = campaign.folder / REPLACED_LABELS
    return {
        "labelled": campaign.labelled(),
        "waiting": campaign.waiting(),
        "stored": target.store.labelled_identifiers(),
        "pool": target.store.pool_identifiers(),
        "labels": {
            file.name: voxels(file).tolist()
            for file in (target.raw / "labelsTr").iterdir()
            if not file.name.startswith(".")
        },
        "used": {file.name: voxels(file).tolist() for file in (target.preprocessed / "gt_segmentations").glob("[!.]*")},
        "seg": {
            case: dataset_of(target).load_case(case)[1][:].tolist() for case in target.store.labelled_identifiers()
        },
        "splits": (target.preprocessed / "splits_final.json").read_text(),
        "kept": sorted(voxel_digest(voxels(file)) for file in kept.glob("case_*")),
        "facts": {
            case: {key: facts[key] for key in ("digest", "dice", "corrections", "changed_voxels")}
            for case, facts in campaign.ingested.items()
        },
    }


def end_of(target, result) -> None:
    result.write_text(json.dumps([state_of(target), train_of(target)]))


def kills(target, places, start) -> None:
    """In a process in which no image library has started threads, which a fork would leave behind.

    Kill the command before its first rename, its second ..., and let it run again; writes what the ends were.
    """
    number = 0
    while True:
        for place in places:
            shutil.rmtree(target.root / place)
            shutil.copytree(start / place, target.root / place)
        killed = killed_before_rename(take, number)
        at_the_kill = train_of(target)
        assert not killed_before_rename(take, 1000)
        assert not killed_before_rename(lambda: end_of(target, target.root / "end.json"), 1000)
        (target.root / f"end_{number}.json").write_text(
            json.dumps([killed, at_the_kill, json.loads((target.root / "end.json").read_text())])
        )
        if not killed:
            break
        number += 1


def random_kills(target, places, start) -> None:
    """As :func:`kills`, at a hundred random moments; the command is repeated until it comes to its end."""
    rng = np.random.default_rng(0)
    done, repeats = 0, 0
    begin = time.perf_counter()
    assert not killed_before_rename(take, 1000)
    whole = time.perf_counter() - begin
    while done < 100:
        for place in places:
            shutil.rmtree(target.root / place)
            shutil.copytree(start / place, target.root / place)
        while killed_after(take, rng.uniform(0, 1.2 * whole)):
            done += 1
        assert not killed_before_rename(lambda: end_of(target, target.root / "end.json"), 1000)
        (target.root / "end.json").rename(target.root / f"end_{repeats}.json")
        repeats += 1


def ends_of(target, folder, kill) -> list:
    """How the same command ends after each kill; a correction and a new label are to be taken in one run."""
    edit(folder, "case_3")
    take()
    better = truth(3)
    better[0, 0, 0] = 2
    edit(folder, "case_3", better)
    edit(folder, "case_2", ending=".seg.nrrd")
    handed, start = content(folder), target.root / "start"
    places = ("nnUNet_raw", "nnUNet_preprocessed")
    for place in places:
        shutil.copytree(target.root / place, start / place)
    process = multiprocessing.get_context("spawn").Process(target=kill, args=(target, places, start))
    process.start()
    process.join()
    assert process.exitcode == 0
    ends = [json.loads(file.read_text()) for file in target.root.glob("end_*.json")]
    assert content(folder) == handed
    return ends


@needs_fork
def test_a_kill_at_any_step_loses_nothing_and_the_same_command_ends_the_same(target, folder):
    ends = ends_of(target, folder, kills)
    whole = [end for killed, _, end in ends if not killed]
    assert len(whole) == 1 and len(ends) > 12
    state, train = whole[0]
    assert state["labelled"] == train == ["case_0", "case_2", "case_3"] and len(state["kept"]) == 1
    for _, at_the_kill, end in ends:
        assert at_the_kill in (["case_0", "case_3"], ["case_0", "case_2", "case_3"])
        assert end == whole[0]


@pytest.mark.long
@needs_fork
def test_killed_at_a_hundred_random_moments_the_same_command_ends_the_same(target, folder):
    ends = ends_of(target, folder, random_kills)
    state, train = ends[0]
    assert state["labelled"] == train == ["case_0", "case_2", "case_3"] and len(state["kept"]) == 1
    assert len(ends) > 1 and all(end == ends[0] for end in ends)


def test_a_label_in_another_format_that_a_training_found_by_itself_is_noted_like_any_other(target):
    campaign = campaign_of(target)
    ask(campaign, "case_3")
    write_image(target.raw / "labelsTr" / "case_3.mha", truth(3), spacing=SPACING)
    raw = RawDataset(target.raw)
    preprocess_case(raw.cases["case_3"], target.store, raw.dataset_json)
    with campaign.lock():
        note_labels(campaign, ["case_3"], silent)
    noted = campaign.ingested["case_3"]
    assert noted["file"].endswith("case_3.mha") and noted["digest"] == voxel_digest(truth(3))


@pytest.mark.parametrize(
    "name", ["splits_final.json", "active/splits_written.json", "active/splits_before_nnunet_active.json"]
)
@pytest.mark.parametrize("damage", ["[", '[{"train": ["../../x"], "val": []}]', '{"a": 1}'])
def test_a_damaged_split_file_is_named_before_any_label_moves(target, folder, name, damage):
    edit(folder, "case_1")
    file = target.preprocessed / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(damage)
    before = content(target.root)
    with pytest.raises(CampaignError, match=re.escape(file.name)):
        take()
    assert content(target.root) == before and not (target.raw / "labelsTr" / "case_1.nii.gz").exists()


# ---- a folder under another name -------------------------------------------------------------------------------------------------


def another_way_to(folder, how: str, tmp_path, monkeypatch):
    if how == "relative":
        monkeypatch.chdir(folder.parent)
        return folder.relative_to(folder.parent)
    place = tmp_path / "another way"
    if how == "moved":
        return folder.rename(place)
    if how == "copied without its times":
        return shutil.copytree(folder, place, copy_function=shutil.copyfile)
    place.symlink_to(folder)
    return place


@pytest.mark.parametrize("how", ["relative", "moved", "link", "copied without its times"])
def test_an_old_label_never_comes_back_over_its_correction_by_another_path(target, folder, tmp_path, monkeypatch, how):
    edit(folder, "case_3")
    take()
    better, best = truth(3), truth(3)
    better[0, 0, 0], best[0, 0, :2] = 1, 2
    write_image(target.raw / "labelsTr" / "case_3.nii.gz", better, spacing=SPACING)
    assert list(take().corrected) == ["case_3"]
    write_image(target.raw / "labelsTr" / "case_3.nii.gz", best, spacing=SPACING)  # not taken up yet
    edit(folder, "case_1")  # finished later
    report = take(another_way_to(folder, how, tmp_path, monkeypatch))
    assert list(report.taken) == ["case_1"] and not report.corrected and not report.refused
    np.testing.assert_array_equal(label_of(target, "case_3"), best)
    said = "taken before and replaced by a newer label, which stays" in " ".join(report.warnings.get("case_3", []))
    assert said == (how in ("moved", "copied without its times"))
    assert list(take().corrected) == ["case_3"]
    np.testing.assert_array_equal(voxels(target.preprocessed / "gt_segmentations" / "case_3.nii.gz"), best)


def test_a_label_whose_file_in_labelstr_is_gone_comes_back_from_a_moved_folder(target, folder, tmp_path):
    edit(folder, "case_3")
    take()
    (target.raw / "labelsTr" / "case_3.nii.gz").unlink()
    take(folder.rename(tmp_path / "elsewhere"))
    np.testing.assert_array_equal(label_of(target, "case_3"), truth(3))


def test_a_step_back_in_the_hand_off_folder_or_in_labelstr_is_a_correction(target, folder):
    file = edit(folder, "case_3")
    first = file.read_bytes()
    take()
    better = truth(3)
    better[0, 0, 0] = 2
    edit(folder, "case_3", better)
    take()
    file.write_bytes(first)
    assert list(take().corrected) == ["case_3"]
    np.testing.assert_array_equal(label_of(target, "case_3"), truth(3))
    write_image(target.raw / "labelsTr" / "case_3.nii.gz", better, spacing=SPACING)
    assert list(take().corrected) == ["case_3"]


def test_nnunet_raw_by_a_relative_path_finds_no_second_label(target, folder, monkeypatch):
    edit(folder, "case_3")
    take()
    monkeypatch.chdir(target.root)
    monkeypatch.setenv("nnUNet_raw", "nnUNet_raw")
    report = take()
    assert not report.taken and not report.corrected and not report.warnings
