from __future__ import annotations

import json

import numpy as np
import tiny_handoff
import torch
from tiny_rounds import request, start
from tiny_target import PLANS

from nnunet_active.rounds.hand_over import hand_over
from nnunet_active.rounds.labels_at_hand import returned_labels
from nnunet_active.workspace import Workspace


def predict(image):
    """Oedema wherever the first channel is bright."""
    logits = torch.zeros((3, *image.shape[1:]))
    logits[1] = torch.from_numpy(image[0]) * 4 - 2
    return logits


def hand(campaign, predict=predict):
    said: list[str] = []
    with campaign.lock():
        (one,) = hand_over(Workspace.of(campaign), predict, log=said.append)
    return one, said


def plan_again(target, weights="another source network"):
    file = target.preprocessed / f"{PLANS}.json"
    plans = json.loads(file.read_text())
    for source in plans["source_models"].values():
        source["weights"] = weights
    file.write_text(json.dumps(plans))


def label(one, case):
    return tiny_handoff.voxels(one.folder / case / f"{case}.nii.gz")


def test_after_a_second_plan_the_old_models_predictions_are_not_served_as_the_new_ones(target):
    campaign = start()
    request(campaign, "case_1", "case_2")
    old, _ = hand(campaign)
    before = {case: label(old, case) for case in old.cases}
    assert hand(campaign, predict=None)[1] == []  # the same model: nothing is predicted again
    plan_again(target)
    new, said = hand(campaign, lambda image: -predict(image))
    assert new.folder == old.folder and new.cases == old.cases
    assert all(not np.array_equal(label(new, case), before[case]) for case in new.cases)
    (kept,) = old.folder.parent.glob("fold_0_round_001_until_*")
    np.testing.assert_array_equal(tiny_handoff.voxels(kept / "case_1" / "case_1.nii.gz"), before["case_1"])
    assert "of the source network before the present one" in said[0] and kept.name in said[0]
    assert hand(campaign, predict=None)[1] == []
    state = returned_labels(campaign, Workspace.of(campaign).raw, target.store)
    assert not any(one.ready for one in state.values())


def test_finished_labels_keep_the_folder_until_they_are_taken_back(target):
    campaign = start()
    request(campaign, "case_1", "case_2")
    old, _ = hand(campaign)
    tiny_handoff.edit(old.folder, "case_1")
    drawn, other = label(old, "case_1"), label(old, "case_2")
    plan_again(target)
    new, said = hand(campaign, predict=None)
    np.testing.assert_array_equal(label(new, "case_1"), drawn)
    np.testing.assert_array_equal(label(new, "case_2"), other)
    assert "Labels are finished (case_1)" in said[0] and "nnunet_active ingest -d 902 takes them back" in said[0]
    with campaign.lock():
        campaign.mark_labelled(["case_1"])
    later, _ = hand(campaign, lambda image: -predict(image))
    assert later.cases == ("case_2",) and not np.array_equal(label(later, "case_2"), other)
    (kept,) = old.folder.parent.glob("fold_0_round_001_until_*")
    np.testing.assert_array_equal(tiny_handoff.voxels(kept / "case_1" / "case_1.nii.gz"), drawn)


def test_a_note_that_cannot_be_read_is_made_anew(target):
    campaign = start()
    request(campaign, "case_1")
    old, _ = hand(campaign)
    (note,) = campaign.predictions_folder(1).glob(".source_network.json")
    note.write_text("{")
    assert hand(campaign, predict=None)[1] == []
    plan_again(target)
    new, said = hand(campaign, lambda image: -predict(image))
    assert len(said) == 1 and new.folder == old.folder
