"""What a training finds in labelsTr by itself."""

from __future__ import annotations

import os

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
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

from nnunet_active.cli.main import main
from nnunet_active.returned.found_labels import settle_found
from nnunet_active.training.session import QuerySession
from nnunet_active.util.lock import hold
from nnunet_active.util.log import silent
from nnunet_active.workspace import Workspace


def train(target, said: list[str]) -> list[str]:
    """The look of a training that begins; who still waits."""
    session = QuerySession(Workspace(NAME, "0"), said.append, target.root / "log.jsonl")
    session.begin()
    waiting = session.take_up_labels(0)
    session.end()
    return waiting


def test_a_training_joins_the_slices_that_it_finds_with_those_that_were_labelled_before(target):
    case, first, new, _ = answered_once(target)
    file = target.raw / "labelsTr" / f"{case}.nii.gz"
    before, saved = file.read_bytes(), write_slices(target, file, case, new)
    said: list[str] = []
    assert case not in train(target, said)
    assert_labelled(target, case, {*first, *new})
    kept = {one.read_bytes() for one in (campaign_of(target).folder / "replaced_labels").glob(f"{case}__*")}
    assert kept == {before, saved}
    assert campaign_of(target).ingested[case]["corrections"] == 0
    assert any("holds the slices that were labelled before" in one for one in said)
    again = take()
    assert not again.taken and not again.corrected and not again.refused and not again.warnings


def test_what_a_training_cannot_join_stays_as_it_is_and_so_does_what_is_trained_on(target):
    case, *_ = answered_once(target)
    file = target.raw / "labelsTr" / f"{case}.nii.gz"
    used = nnUNetDatasetBlosc2(str(target.store.folder), [case]).load_case(case)[1][:]
    for label in (
        np.zeros(SHAPE, dtype=np.uint8),  # as if the whole scan were labelled
        np.full(SHAPE, IGNORE + 5, dtype=np.uint8),
    ):
        image = sitk.GetImageFromArray(label)
        image.CopyInformation(sitk.ReadImage(str(target.raw / "imagesTr" / f"{case}_0000.nii.gz")))
        sitk.WriteImage(image, str(file), True)
        saved, said = file.read_bytes(), []
        assert case in train(target, said) and any(f"WARNING: Case {case}: " in one for one in said)
        assert file.read_bytes() == saved
    np.testing.assert_array_equal(nnUNetDatasetBlosc2(str(target.store.folder), [case]).load_case(case)[1][:], used)


def test_while_ingest_lays_labels_there_a_training_takes_none_of_them(target):
    case, _, new, _ = answered_once(target)
    saved = write_slices(target, file := target.raw / "labelsTr" / f"{case}.nii.gz", case, new)
    campaign = campaign_of(target)
    with hold(campaign.folder / "replaced_labels"):
        joined, refused = settle_found(campaign, campaign.waiting(), silent)
    assert joined == {} and list(refused) == [case] and file.read_bytes() == saved


def test_the_first_slices_of_a_case_need_nothing_to_be_joined_with(target):
    made, folder = ask(target)
    case = made.requested[0]
    annotate(folder, case, made.slices[case].slices)
    file = target.raw / "labelsTr" / f"{case}.nii.gz"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes((folder / case / f"{case}.nii.gz").read_bytes())
    assert case not in train(target, [])
    assert_labelled(target, case, made.slices[case].slices)
    assert (voxels(file) != IGNORE).any() and truth(seed_of(case)).shape == SHAPE


@pytest.mark.parametrize("command", ["preprocess", "select"])
def test_no_other_command_takes_new_slices_before_they_are_joined(target, command, capsys):
    case, first, new, _ = answered_once(target)
    file = target.raw / "labelsTr" / f"{case}.nii.gz"
    write_slices(target, file, case, new, 0)
    later = (
        file.stat().st_mtime + 5
    )  # no person saves within the second of the label before, to which copies are rounded
    os.utime(file, (later, later))
    if command == "preprocess":
        assert main(["preprocess", "-d", NAME, "-c", target.configuration, "-p", PLANS, "-np", "1"]) == 0
        assert f"Case {case}: the label" in capsys.readouterr().out
    else:
        ask(target)
    take()
    assert_labelled(target, case, {*first, *new})
