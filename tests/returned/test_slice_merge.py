"""Rounds of slices with a person, from the request to a stock training, and what becomes of files that come back oddly."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from killed_process import killed_after, killed_before_rename, needs_fork, seconds_of
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from tiny_dicom import contours_of, write_structure_set
from tiny_mitk import accept
from tiny_slices import (
    IGNORE,
    annotate,
    answered_once,
    ask,
    assert_labelled,
    campaign_of,
    seed_of,
    take,
    voxels,
    write_slices,
)
from tiny_slices import MADE as MADE
from tiny_target import NAME, PLANS, SHAPE, truth

from nnunet_active.data.geometry import Geometry
from nnunet_active.data.partial_labels import keep_slices
from nnunet_active.rounds.explanation import explain_choice
from nnunet_active.rounds.explanation_words import choice_lines
from nnunet_active.rounds.labels_at_hand import returned_labels
from nnunet_active.rounds.next_step import next_step
from nnunet_active.rounds.round_table import Query
from nnunet_active.workspace import Workspace


def test_three_rounds_with_three_programs_and_then_a_stock_training_and_prediction(target):
    labelled: dict[str, set[int]] = {}
    for number, ending in enumerate((".nii.gz", ".seg.nrrd", ".mha"), 1):
        made, folder = ask(target)
        assert sum(len(one.slices) for one in made.slices.values()) == 4 and len(made.slices) == 4
        for case, request in made.slices.items():
            assert request.axis == "z" and not labelled.get(case, set()) & set(request.slices)
            annotate(folder, case, request.slices, ending)
            labelled.setdefault(case, set()).update(request.slices)
        report = take()
        assert sorted(report.taken) == sorted(made.requested) and not report.refused and not report.waiting
        campaign = campaign_of(target)
        assert campaign.labels_known() == 4 * number and campaign.spent() == 4 * number
        for case, slices in labelled.items():
            wanted = keep_slices(truth(seed_of(case)), 0, slices, IGNORE)
            np.testing.assert_array_equal(voxels(target.raw / "labelsTr" / f"{case}.nii.gz"), wanted)
            seg = nnUNetDatasetBlosc2(str(target.store.folder), [case]).load_case(case)[1][0]
            np.testing.assert_array_equal(seg[:], wanted)  # nothing is resampled here
    again = take()
    assert not again.taken and not again.corrected and not again.refused and not again.warnings
    trainer = get_trainer_from_args(NAME, target.configuration, 0, "nnUNetTrainer", PLANS, device=torch.device("cpu"))
    trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 1, 2, 1
    trainer.logger.plot_progress_png = lambda folder: None
    trainer.run_training()
    trainer.perform_actual_validation()
    predict_with_nnunet(target)


PREDICT = "from nnunetv2.inference.predict_from_raw_data import predict_entry_point as main; main()"


def predict_with_nnunet(target) -> None:
    """``nnUNetv2_predict`` with the trained model: every scan gets a whole label map, the ignore value nowhere."""
    folders = ["-i", str(target.raw / "imagesTr"), "-o", str(target.root / "predicted")]
    model = ["-d", NAME, "-c", target.configuration, "-p", PLANS, "-f", "0", "-tr", "nnUNetTrainer"]
    how = ["-device", "cpu", "-npp", "1", "-nps", "1", "--disable_tta", "--disable_progress_bar"]
    done = subprocess.run([sys.executable, "-c", PREDICT, *folders, *model, *how], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    files = sorted((target.root / "predicted").glob("*.nii.gz"))
    assert [file.name for file in files] == sorted(file.name for file in (target.raw / "labelsTr").glob("*.nii.gz"))
    for file in files:
        assert voxels(file).shape == SHAPE and set(np.unique(voxels(file))) <= {0, 1, 2}


def test_the_hand_off_folder_names_the_slices_and_shows_the_prediction_beside_them(target):
    made, folder = ask(target)
    case = made.requested[0]
    request = made.slices[case]
    handed, whole = (voxels(folder / case / f"{case}{part}.nii.gz") for part in ("", "_prediction"))
    np.testing.assert_array_equal(handed, keep_slices(whole, 0, request.slices, IGNORE))
    shown = voxels(folder / case / f"{case}.seg.nrrd")
    np.testing.assert_array_equal(shown, np.where(handed == IGNORE, 0, handed))
    people = " ".join(str(index + 1) for index in request.slices)
    worklist = (folder / "worklist.csv").read_text()
    assert ",axis,slices," in worklist.splitlines()[0] and f",z,{people}," in worklist
    assert "ONLY SOME SLICES" in (folder / "README.txt").read_text()
    assert f"{case}_prediction.nii.gz" in (folder / case / f"{case}.itksnap").read_text()
    assert "prediction" in (folder / "open_in_slicer.py").read_text()
    report = take()
    assert sorted(report.untouched) == sorted(made.requested) and not report.taken and not report.unknown


def test_of_several_slices_the_empty_and_missing_ones_are_named(target):
    made, folder = ask(target, 8)
    case = next(case for case, one in made.slices.items() if len(one.slices) == 2)
    first, second = made.slices[case].slices
    annotate(folder, case, [first], label=np.zeros(SHAPE, dtype=np.uint8))
    annotate(folder, case, [second], label=np.full(SHAPE, IGNORE, dtype=np.uint8))
    said = " ".join(take().warnings[case])
    assert f"slice {first + 1} along z: empty, taken as background" in said
    assert f"slice {second + 1} along z: not labelled, still waited for" in said
    assert campaign_of(target).waiting_slices()[case].slices == (second,)
    assert campaign_of(target).known_slices()[case].slices == (first,)


def test_a_file_that_may_have_been_saved_half_way_waits_until_all_its_slices_are_changed_or_accepted(target):
    made, folder = ask(target, 8)
    cases = [case for case, one in made.slices.items() if len(one.slices) == 2][:3]
    for case in cases:
        annotate(folder, case, made.slices[case].slices[:1])
    for _ in range(2):
        report = take()
        for case in cases:
            first, second = made.slices[case].slices
            told = f"slice {first + 1} along z changed, slice {second + 1} along z still as predicted"
            assert told in report.refused[case] and f"--accept-unchanged {case}" in report.refused[case]
            assert campaign_of(target).waiting_slices()[case].slices == (first, second)
        assert not report.taken and not list((target.raw / "labelsTr").glob("*"))
        step = next_step(Workspace(NAME))
        assert (
            step.kind == "label" and not step.state["returned"] and any("still as predicted" in one for one in step.why)
        )
    accepted, changed, submitted = cases
    annotate(folder, changed, made.slices[changed].slices)
    shutil.copy(folder / submitted / f"{submitted}.nii.gz", folder / submitted / "accepted")
    assert next_step(Workspace(NAME)).state["returned"] == sorted([changed, submitted])
    report = take(accept_unchanged=[accepted])
    assert sorted(report.taken) == sorted(cases) and not report.refused
    for case in cases:
        drawn = keep_slices(truth(seed_of(case)), 0, made.slices[case].slices, IGNORE)
        if case != changed:
            second = made.slices[case].slices[1]
            drawn[second] = voxels(folder / case / f"{case}.nii.gz")[second]
        np.testing.assert_array_equal(voxels(target.raw / "labelsTr" / f"{case}.nii.gz"), drawn)
        assert campaign_of(target).known_slices()[case].slices == made.slices[case].slices
        assert case not in campaign_of(target).waiting_slices()


def test_slices_that_nobody_asked_for_are_taken_where_that_is_said(target):
    made, folder = ask(target)
    case = made.requested[0]
    (asked,) = made.slices[case].slices
    drawn = 7 if asked != 7 else 6
    annotate(folder, case, [asked, drawn])
    report = take()
    assert f"slice {drawn + 1} along z: drawn, but not asked for" in " ".join(report.warnings[case])
    label = voxels(target.raw / "labelsTr" / f"{case}.nii.gz")
    np.testing.assert_array_equal(label, keep_slices(truth(seed_of(case)), 0, [asked], IGNORE))
    other = made.requested[1]
    (asked,) = made.slices[other].slices
    annotate(folder, other, [asked, drawn])
    take(also_drawn=True)
    label = voxels(target.raw / "labelsTr" / f"{other}.nii.gz")
    np.testing.assert_array_equal(label, keep_slices(truth(seed_of(other)), 0, {asked, drawn}, IGNORE))
    assert set(campaign_of(target).known_slices()[other].slices) == {asked, drawn}


def test_a_slice_that_comes_back_without_any_label_is_told_what_to_do(target):
    made, folder = ask(target)
    case = made.requested[0]
    (asked,) = made.slices[case].slices
    annotate(folder, case, [asked], label=np.full(SHAPE, IGNORE, dtype=np.uint8))
    annotate(folder, case, [7 if asked != 7 else 6])
    said = take().refused[case]
    assert f"nothing is labelled in the slice {asked + 1} along z" in said and "--accept-unchanged" not in said
    assert case in campaign_of(target).waiting_slices()


def test_an_untouched_case_waits_until_it_is_confirmed(target):
    made, folder = ask(target)
    case = made.requested[0]
    assert case in take().untouched
    report = take(accept_unchanged=[case])
    assert list(report.taken) == [case]
    given = voxels(folder / case / f"{case}.nii.gz")
    np.testing.assert_array_equal(voxels(target.raw / "labelsTr" / f"{case}.nii.gz"), given)


def test_slices_that_were_accepted_in_mitk_are_labelled_changed_or_not(target):
    made, folder = ask(target)
    case, other = made.requested[:2]
    accept(folder, case)
    drawn = voxels(folder / other / f"{other}.seg.nrrd")
    drawn[made.slices[other].slices[0], 2:5, 2:5] = 2
    accept(folder, other, drawn)
    report = take()
    assert sorted(report.taken) == sorted([case, other])
    given = voxels(folder / case / f"{case}.nii.gz")
    np.testing.assert_array_equal(voxels(target.raw / "labelsTr" / f"{case}.nii.gz"), given)
    expected = keep_slices(drawn, 0, made.slices[other].slices, IGNORE)
    np.testing.assert_array_equal(voxels(target.raw / "labelsTr" / f"{other}.nii.gz"), expected)
    known = campaign_of(target).known_slices()
    assert {one: known[one].slices for one in (case, other)} == {one: made.slices[one].slices for one in (case, other)}


def test_a_correction_of_an_earlier_round_is_taken_over_and_the_old_label_kept(target):
    made, folder = ask(target, 4)
    for case, request in made.slices.items():
        annotate(folder, case, request.slices)
    take()
    case = made.requested[0]
    (asked,) = made.slices[case].slices
    second, later = ask(target, 4)
    corrected = truth(seed_of(case))
    corrected[asked, 0, 0] = 2
    annotate(folder, case, [asked], ".seg.nrrd", corrected)  # in the folder of the first round, with another program
    report = take()
    label = voxels(target.raw / "labelsTr" / f"{case}.nii.gz")
    np.testing.assert_array_equal(label, keep_slices(corrected, 0, [asked], IGNORE))
    assert case in report.corrected and case in report.waiting
    kept = list((campaign_of(target).folder / "replaced_labels").glob(f"{case}__*"))
    assert len(kept) == 1
    new = second.slices[case].slices
    annotate(later, case, new)
    take()
    label = voxels(target.raw / "labelsTr" / f"{case}.nii.gz")
    np.testing.assert_array_equal(label, keep_slices(corrected, 0, {asked, *new}, IGNORE))


# --- kills -----------------------------------------------------------------------------------------------------------------------


def second_round_drawn(target) -> dict[str, np.ndarray]:
    """One round taken back, a second one drawn and not taken back yet, one slice of the first one corrected; what must come out."""
    wanted = {}
    made, folder = ask(target)
    for case, request in made.slices.items():
        annotate(folder, case, request.slices)
    take()
    later, second = ask(target)
    for case in made.requested:
        label = truth(seed_of(case))
        if case == made.requested[0]:
            label[made.slices[case].slices[0], 0, 0] = 2
            annotate(folder, case, made.slices[case].slices, label=label)
        annotate(second, case, later.slices[case].slices)
        wanted[case] = keep_slices(label, 0, {*made.slices[case].slices, *later.slices[case].slices}, IGNORE)
    # the second folder holds the first slice as it was labelled, uncorrected: the correction is made there
    case = made.requested[0]
    annotate(second, case, made.slices[case].slices, label=np.where(wanted[case] == IGNORE, 0, wanted[case]))
    (folder / case / f"{case}.nii.gz").unlink()
    return wanted


def labels_of(target) -> dict[str, np.ndarray]:
    return {file.name.removesuffix(".nii.gz"): voxels(file) for file in (target.raw / "labelsTr").glob("*.nii.gz")}


def take_in_a_fork() -> None:
    torch.set_num_threads(1)
    take()


def assert_nothing_is_lost(target, first, wanted) -> None:
    """At any moment each label is the one before or the one after."""
    found = labels_of(target)
    assert found.keys() == wanted.keys()
    for case, label in found.items():
        assert any(np.array_equal(label, one[case]) for one in (first, wanted))


def check_kills(target, kill, tries: Iterable[int]) -> int:
    """Kill, look, repeat, each time from the start; ``kill`` gives None at the end; returns the number of kills."""
    wanted = second_round_drawn(target)
    first, kills, start = labels_of(target), 0, target.root / "start"
    places = ("nnUNet_raw", "nnUNet_preprocessed")
    for place in places:
        shutil.copytree(target.root / place, start / place, symlinks=True)
    for step in tries:
        for place in places:
            shutil.rmtree(target.root / place)
            shutil.copytree(start / place, target.root / place, symlinks=True)
        if (died := kill(step)) is None:
            break
        if not died:
            continue
        kills += 1
        assert_nothing_is_lost(target, first, wanted)
        take()
        campaign = campaign_of(target)
        assert campaign.labels_known() == 8 and not campaign.waiting()
        for case, label in labels_of(target).items():
            np.testing.assert_array_equal(label, wanted[case], err_msg=f"after a kill at step {step}")
    return kills


@needs_fork
def test_killed_before_any_rename_no_labelled_slice_is_lost(target):
    assert (
        check_kills(target, lambda step: killed_before_rename(take_in_a_fork, 2 * step) or None, itertools.count()) > 5
    )


@pytest.mark.long
@needs_fork
def test_killed_at_a_hundred_random_moments_no_labelled_slice_is_lost(target):
    rng, spans, done = np.random.default_rng(0), [], []

    def kill(step: int) -> bool | None:
        if not spans:
            spans.append(seconds_of(take_in_a_fork))
            return False
        if len(done) == 100:
            return None
        died = killed_after(take_in_a_fork, rng.uniform(0, spans[0]))
        done.extend([step] * died)
        return died

    assert check_kills(target, kill, range(1000)) == 100


def test_next_and_explain_speak_of_slices(target):
    made, folder = ask(target)
    case = made.requested[0]
    assert next_step(Workspace(NAME)).kind == "label" and "budget 4 slices" in next_step(Workspace(NAME)).why[0]
    text = "\n".join(choice_lines(case, explain_choice(Query.of_round(made), case)))
    assert f"    {made.slices[case].slices[0] + 1}: " in text and "Slices along z (spread; " in text
    annotate(folder, case, made.slices[case].slices, ".seg.nrrd")
    step = next_step(Workspace(NAME))
    assert step.kind == "ingest" and step.state["returned"] == [case]
    take()
    later = next_step(Workspace(NAME))
    assert later.kind == "label" and case not in later.state["waiting"]


def test_what_was_taken_is_not_offered_again_while_other_slices_of_the_case_wait(target):
    made, folder = ask(target, 8)
    case = next(case for case, one in made.slices.items() if len(one.slices) == 2)
    first, second = made.slices[case].slices
    annotate(folder, case, [first])
    annotate(folder, case, [second], label=np.full(SHAPE, IGNORE, dtype=np.uint8))
    assert next_step(Workspace(NAME)).state["returned"] == [case]
    take()
    step = next_step(Workspace(NAME))
    assert step.kind == "label" and not step.state["returned"] and case in step.state["waiting"]
    again = take()
    assert not again.taken and not again.corrected and not again.refused and not again.warnings
    corrected = truth(seed_of(case))
    corrected[first, 0, 0] = 2
    annotate(folder, case, [first], label=corrected)  # the other slice still waits
    assert next_step(Workspace(NAME)).state["returned"] == [case]
    assert list(take().corrected) == [case]
    assert next_step(Workspace(NAME)).kind == "label"
    annotate(folder, case, [second])
    assert next_step(Workspace(NAME)).state["returned"] == [case]
    assert list(take().taken) == [case] and case not in next_step(Workspace(NAME)).state["waiting"]


def test_what_was_drawn_elsewhere_only_is_no_answer_for_next(target):
    made, folder = ask(target)
    case = made.requested[0]
    (asked,) = made.slices[case].slices
    annotate(folder, case, [7 if asked != 7 else 6])
    assert case in take().refused
    step = next_step(Workspace(NAME))
    assert step.kind == "label" and f"{made.slices[case].words()} still to be labelled" in " ".join(step.why)


def test_contours_of_a_structure_set_follow_the_rules_of_slices(target):
    """A slice that was asked for and has no contour is empty; others without a contour were not looked at."""
    made, folder = ask(target, 8)
    case = next(case for case, one in made.slices.items() if len(one.slices) == 2)
    first, second = made.slices[case].slices
    drawn = np.zeros(SHAPE, dtype=np.uint8)
    drawn[first, 2:7, 3:6] = 2
    steps = Geometry.of_file(folder / case / f"{case}_0000.nii.gz").affine
    write_structure_set(folder / case / f"{case}.dcm", [("core", contours_of(drawn == 2, steps))])
    report = take()
    assert list(report.taken) == [case] and f"slice {second + 1} along z: empty" in " ".join(report.warnings[case])
    label = voxels(target.raw / "labelsTr" / f"{case}.nii.gz")
    np.testing.assert_array_equal(label, keep_slices(drawn, 0, [first, second], IGNORE))


# --- what lies in labelsTr --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("elsewhere", [IGNORE, 0])
def test_a_label_of_the_new_slices_alone_that_is_put_into_labelstr_is_joined_with_the_earlier_ones(target, elsewhere):
    case, first, new, _ = answered_once(target)
    file = target.raw / "labelsTr" / f"{case}.nii.gz"
    before, saved = file.read_bytes(), write_slices(target, file, case, new, elsewhere)
    report = take()
    assert list(report.taken) == [case] and "holds the slices that were labelled before" in report.warnings[case][-1]
    assert_labelled(target, case, {*first, *new})
    kept = {one.read_bytes() for one in (campaign_of(target).folder / "replaced_labels").glob(f"{case}__*")}
    assert kept == {before, saved}
    again = take()
    assert not again.taken and not again.corrected and not again.refused and not again.warnings


def test_what_a_person_drew_in_labelstr_without_being_asked_counts_and_a_copied_prediction_does_not(target):
    case, first, new, (_, second) = answered_once(target)
    file = target.raw / "labelsTr" / f"{case}.nii.gz"
    predicted = voxels(second / case / f"{case}_prediction.nii.gz")
    true, others = truth(seed_of(case)), {*range(SHAPE[0])} - {*first, *new}
    drawn = next(one for one in others if true[one].any() and not np.array_equal(true[one], predicted[one]))
    copied = [one for one in others - {drawn} if predicted[one].any()]
    write_slices(target, file, case, [*new, drawn])
    label = sitk.ReadImage(str(file))
    array = sitk.GetArrayFromImage(label)
    array[copied] = predicted[copied]
    joined = sitk.GetImageFromArray(array)
    joined.CopyInformation(label)
    sitk.WriteImage(joined, str(file), True)
    take()
    assert_labelled(target, case, {*first, *new, drawn})


@pytest.mark.parametrize("how", ["relative", "moved", "link"])
def test_zeros_of_a_folder_of_an_earlier_round_are_no_answer_to_a_later_one_by_whatever_path(target, monkeypatch, how):
    made, folder = ask(target)
    for case, request in made.slices.items():
        annotate(folder, case, request.slices)
    take()
    later, _ = ask(target)
    case = made.requested[0]
    (asked,) = made.slices[case].slices
    corrected = truth(seed_of(case))
    corrected[asked, 0, 0] = 2
    annotate(folder, case, [asked], ".seg.nrrd", corrected)  # with 0 wherever nothing is drawn
    (folder / case / f"{case}.nii.gz").unlink()
    place = target.root / "another"
    if how == "relative":
        monkeypatch.chdir(folder.parent)
        place = folder.relative_to(folder.parent)
    elif how == "moved":
        folder.rename(place)
    else:
        place.symlink_to(folder)
    report = take(folders=[place])
    assert not report.taken and list(report.corrected) == [case] and not report.warnings and not report.refused
    assert campaign_of(target).waiting_slices() == later.slices and campaign_of(target).labels_known() == 4


def test_an_old_label_of_slices_comes_back_over_no_correction_from_a_moved_folder(target):
    case, first, _, (folder, _) = answered_once(target)
    corrected = voxels(target.raw / "labelsTr" / f"{case}.nii.gz")
    corrected[first[0], 0, 0] = 2
    image = sitk.ReadImage(str(target.raw / "labelsTr" / f"{case}.nii.gz"))
    edited = sitk.GetImageFromArray(corrected)
    edited.CopyInformation(image)
    sitk.WriteImage(edited, str(target.raw / "labelsTr" / f"{case}.nii.gz"), True)
    assert list(take().corrected) == [case]
    report = take(folders=[folder.rename(target.root / "moved")])
    assert not report.corrected and not report.taken
    np.testing.assert_array_equal(voxels(target.raw / "labelsTr" / f"{case}.nii.gz"), corrected)


@pytest.mark.parametrize("elsewhere", [IGNORE, 0])
def test_of_two_deliveries_during_one_training_neither_is_lost(target, elsewhere):
    case, first, new, _ = answered_once(target, 8)
    assert len(new) == 2
    # whoever draws the first of the two slices has foreground in it: nobody else's zeros may count for it
    drawn = sorted(new, key=lambda index: not truth(seed_of(case))[index].any())
    for reader, index in zip(("one", "other"), drawn, strict=True):
        write_slices(
            target, target.root / reader / f"{case}.nii.gz", case, [index], IGNORE if reader == "one" else elsewhere
        )
    with campaign_of(target).lock():  # a training is under way
        assert take(folders=[target.root / "one"]).delivered == [case]
        report = take(folders=[target.root / "other"])
        assert report.delivered == [case] and not report.refused
    report = take()
    assert list(report.taken) == [case] and not report.refused
    assert_labelled(target, case, {*first, *new})


def test_a_label_that_lies_in_labelstr_and_was_not_taken_yet_is_joined_with_one_from_elsewhere(target):
    case, first, new, _ = answered_once(target, 8)
    drawn = sorted(new, key=lambda index: not truth(seed_of(case))[index].any())
    write_slices(target, target.raw / "labelsTr" / f"{case}.nii.gz", case, drawn[:1])
    write_slices(target, target.root / "mine" / f"{case}.nii.gz", case, drawn[1:])
    assert list(take(folders=[target.root / "mine"]).taken) == [case]
    assert_labelled(target, case, {*first, *new})


@pytest.mark.parametrize("ending", [".nii.gz", ".seg.nrrd"])
def test_an_earlier_slice_as_it_was_handed_over_undoes_no_correction_made_since(target, ending):
    case, first, new, (folder, second) = answered_once(target)
    corrected = truth(seed_of(case)).copy()
    corrected[first[0], 2:9, 2:9] = 2
    annotate(folder, case, first, label=corrected)
    assert list(take().corrected) == [case]
    annotate(second, case, new, ending)
    report = take()
    assert list(report.taken) == [case] and "the correction stays" in " ".join(report.warnings[case])
    label = voxels(target.raw / "labelsTr" / f"{case}.nii.gz")
    np.testing.assert_array_equal(label, keep_slices(corrected, 0, {*first, *new}, IGNORE))


def test_what_was_ignored_in_an_earlier_slice_stays_ignored_where_nobody_touched_it(target):
    made, folder = ask(target)
    for case, request in made.slices.items():
        label = truth(seed_of(case)).copy()
        label[:, :, 12:], label[:, 0, 0] = IGNORE, 1
        annotate(folder, case, request.slices, label=label)
    take()
    later, second = ask(target)
    assert next_step(Workspace(NAME)).kind == "label"
    assert not take().corrected
    case = later.requested[0]
    before = voxels(target.raw / "labelsTr" / f"{case}.nii.gz")
    annotate(second, case, later.slices[case].slices)  # the untouched .seg.nrrd beside it holds 0 there
    assert list(take().taken) == [case]
    (index,) = made.slices[case].slices
    np.testing.assert_array_equal(voxels(target.raw / "labelsTr" / f"{case}.nii.gz")[index], before[index])


def partly_drawn(target):
    """A case of which a slice was drawn and taken, and another one waits, its hand-off folder and these two slices."""
    made, folder = ask(target, 8)
    case = next(one for one, request in made.slices.items() if len(request.slices) == 2)
    first, second = made.slices[case].slices
    ignored = truth(seed_of(case))
    ignored[second] = IGNORE
    annotate(folder, case, [first, second], label=ignored)
    assert list(take().taken) == [case] and campaign_of(target).waiting_slices()[case].slices == (second,)
    return case, folder, first, second


def correct(target, file, case: str, index: int) -> np.ndarray:
    """What somebody draws over a slice in labelsTr, or in another file like it; returns the corrected truth."""
    corrected = truth(seed_of(case)).copy()
    corrected[index, 2:9, 2:9] = 2
    write_slices(target, file, case, [index])
    array = voxels(file)
    array[index] = corrected[index]
    made = sitk.GetImageFromArray(array)
    made.CopyInformation(sitk.ReadImage(str(file)))
    sitk.WriteImage(made, str(file), True)
    return corrected


@pytest.mark.parametrize("moved", [False, True])
def test_another_slice_of_a_file_undoes_no_correction_of_one_that_was_taken_from_it(target, moved):
    case, folder, first, second = partly_drawn(target)
    corrected = correct(target, target.raw / "labelsTr" / f"{case}.nii.gz", case, first)
    assert list(take().corrected) == [case]
    state = returned_labels(campaign_of(target), Workspace(NAME, "0").raw, target.store)[case]
    assert not state.ready, state.sentence
    if moved:
        folder = folder.rename(target.root / "moved")
    annotate(folder, case, [second])
    report = take(folders=[folder] if moved else [])
    assert list(report.taken) == [
        case
    ] and f"slice {first + 1} along z: not changed in the file, but corrected since" in (
        " ".join(report.warnings[case])
    )
    label = voxels(target.raw / "labelsTr" / f"{case}.nii.gz")
    np.testing.assert_array_equal(label, keep_slices(corrected, 0, [first, second], IGNORE))
    again = take(folders=[folder] if moved else [])
    assert not again.taken and not again.corrected and not again.warnings


def test_a_slice_that_is_drawn_anew_in_a_file_is_a_correction_also_a_step_back(target):
    case, folder, first, second = partly_drawn(target)
    file = folder / case / f"{case}.nii.gz"
    before = voxels(file)
    corrected = correct(target, file, case, first)
    assert list(take().corrected) == [case]
    annotate(folder, case, [first, second], label=np.where(before == IGNORE, truth(seed_of(case)), before))
    report = take()
    assert list(report.taken) == [case] and not np.array_equal(corrected[first], before[first])
    assert_labelled(target, case, {first, second})


def test_further_drawn_slices_of_a_file_that_was_taken_before_are_taken_where_that_is_said(target):
    made, folder = ask(target)
    case = made.requested[0]
    (asked,) = made.slices[case].slices
    drawn = 7 if asked != 7 else 6
    annotate(folder, case, [asked, drawn])
    assert "--also-drawn takes them, too" in " ".join(take().warnings[case])
    corrected = correct(target, target.raw / "labelsTr" / f"{case}.nii.gz", case, asked)
    assert list(take().corrected) == [case]
    report = take(also_drawn=True)
    assert list(report.taken) == [case] and not report.refused
    label = voxels(target.raw / "labelsTr" / f"{case}.nii.gz")
    np.testing.assert_array_equal(label, keep_slices(corrected, 0, {asked, drawn}, IGNORE))
    assert set(campaign_of(target).known_slices()[case].slices) == {asked, drawn}
    again = take(also_drawn=True)
    assert not (again.taken or again.corrected or again.warnings or again.refused)
    other = shutil.copytree(folder, target.root / "a copy")
    again = take(folders=[other], also_drawn=True)
    assert not (again.taken or again.corrected or again.refused)


def test_a_slice_of_which_nothing_is_left_in_what_is_trained_on_does_not_count_as_labelled(target):
    file = target.preprocessed / f"{PLANS}.json"
    plans = json.loads(file.read_text())
    plans["configurations"][target.configuration] |= {"spacing": [4.5, 1.5, 1.5], "patch_size": [4, 16, 16]}
    file.write_text(json.dumps(plans))
    target.preprocess()
    made, _ = ask(target, 2)
    case = next(one for one in ("case_0", "case_1", "case_2", "case_3") if one not in made.slices)
    label = target.raw / "labelsTr" / f"{case}.nii.gz"
    before = write_slices(target, label, case, [9])
    report = take()
    assert "nothing of what is labelled in it is left" in report.refused[case] and not report.taken
    assert label.read_bytes() == before and case not in campaign_of(target).known_slices()
    assert case not in target.store.labelled_identifiers() and case in target.store.pool_identifiers()
