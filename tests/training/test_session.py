from __future__ import annotations

import itertools
import json
import random
import time

import numpy as np
import pytest
import tiny_source
import torch
from tiny_handoff import ask
from tiny_target import NAME, PLANS, make_target

from nnunet_active.campaign.campaign_start import start_campaign
from nnunet_active.campaign.place import Place
from nnunet_active.campaign.settings import Settings
from nnunet_active.campaign.splits import FILE_NAME
from nnunet_active.training.session import QuerySession
from nnunet_active.util.errors import CampaignError
from nnunet_active.workspace import Workspace


def session_of(target, said):
    return QuerySession(Workspace(NAME, "0"), said.append, target.root / "log.jsonl")


def network():
    source = tiny_source.source_model()
    return tiny_source.random_network(source.plans, "3d_fullres", source.dataset_json)


def test_a_query_is_made_once_and_only_where_it_is_due(nnunet_folders):
    target = make_target(nnunet_folders)
    start_campaign(Place.of(NAME, "3d_fullres", PLANS, "0"), Settings(budget=2, stride=3, epochs=9))
    session, saved = session_of(target, []), []
    session.begin()
    for epoch in (0, 0, 1, 2, 3, 4, 6):
        session.query_if_due(epoch, network(), torch.device("cpu"), lambda epoch=epoch: saved.append(epoch))
        assert session.take_up_labels(epoch) == []
    session.end()
    assert saved == [0, 3]
    assert [one.epoch for one in session.campaign.rounds] == [0, 3]
    events = [json.loads(line) for line in (target.root / "log.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["query", "labelled", "query", "labelled"]


def test_a_training_that_puts_back_a_split_edited_by_hand_says_so(nnunet_folders):
    target = make_target(nnunet_folders, labelled=2, unlabelled=2)
    file = target.preprocessed / FILE_NAME
    file.write_text(json.dumps([{"train": ["case_0"], "val": ["case_1"]}] * 2))
    start_campaign(Place.of(NAME, "3d_fullres", PLANS, "0"), Settings(budget=1, oracle="folder"))
    before = json.loads(file.read_text())
    file.write_text(json.dumps([{"train": ["case_0", "case_1"], "val": []}, before[1]]))
    for sentences in (1, 0):
        said: list[str] = []
        session = session_of(target, said)
        session.begin()
        session.end()
        assert sum("was changed by hand" in one and "--restart" in one for one in said) == sentences
        assert json.loads(file.read_text()) == before


def test_the_state_of_all_generators_depends_on_the_seed_and_the_epoch_alone(nnunet_folders):
    target = make_target(nnunet_folders)
    start_campaign(Place.of(NAME, "3d_fullres", PLANS, "0"), Settings(seed=3))
    session = session_of(target, [])

    def draw(epoch):
        session.seed(epoch)
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002 - what nnU-Net draws from

    first = draw(5)
    draw(6)
    assert draw(5) == first
    assert draw(6) != first


def test_a_label_that_nobody_asked_for_is_trained_on_as_well(nnunet_folders):
    target = make_target(nnunet_folders, labelled=1, unlabelled=3)
    start_campaign(Place.of(NAME, "3d_fullres", PLANS, "0"), Settings(budget=1), "folder")
    target.label("case_3")
    target.preprocess()
    said: list[str] = []
    session = session_of(target, said)
    session.begin()
    assert session.take_up_labels(0) == []
    session.end()
    assert session.campaign.labelled(0) == ["case_0", "case_3"]
    assert session.campaign.ingested["case_3"]["volume_label_mm3"]["core"] > 0  # as if it had been ingested
    assert any("without being asked" in sentence and "case_3" in sentence for sentence in said)


def test_a_training_that_waits_names_a_label_that_it_cannot_use_once_and_again_only_after_another_one(
    nnunet_folders, monkeypatch
):
    target = make_target(nnunet_folders, labelled=1, unlabelled=3)
    campaign = start_campaign(Place.of(NAME, "3d_fullres", PLANS, "0"), Settings(budget=2, wait=True), "folder")
    ask(campaign, "case_1")
    file = target.raw / "labelsTr" / "case_1.nii.gz"
    file.write_bytes(b"half of a")
    said: list[str] = []
    annotator = {2: file.unlink, 4: lambda: file.write_bytes(b"damaged again"), 6: lambda: target.label("case_1", 1)}
    looks = itertools.count(1)
    monkeypatch.setattr(time, "sleep", lambda seconds: annotator.get(next(looks), lambda: None)())
    session = session_of(target, said)
    session.begin()
    assert session.take_up_labels(0) == []
    session.end()
    assert session.campaign.labelled() == ["case_0", "case_1"] and next(looks) == 7
    warnings = [sentence for sentence in said if sentence.startswith("WARNING")]
    assert len(warnings) == 2 and all("case_1" in sentence and "cannot be read" in sentence for sentence in warnings)
    assert sum("Waiting for the labels" in sentence for sentence in said) == 1


def test_a_training_goes_on_without_the_labels_of_a_round_by_select_that_have_not_come_and_says_so_once(nnunet_folders):
    target, said = make_target(nnunet_folders, labelled=1, unlabelled=3), []
    campaign = start_campaign(Place.of(NAME, "3d_fullres", PLANS, "0"), Settings(budget=2), "folder")
    ask(campaign, "case_1", "case_2")
    session = session_of(target, said)
    session.begin()
    assert session.take_up_labels(0) == ["case_1", "case_2"]
    target.label("case_1", 1)
    assert session.take_up_labels(0) == [] == session.take_up_labels(1)
    session.end()
    assert session.campaign.labelled() == ["case_0", "case_1"]
    assert [line for line in said if "goes without" in line] == [
        "Not labelled yet, so that this training goes without: case_2."
    ]


def test_two_sessions_on_one_campaign_exclude_each_other(nnunet_folders):
    target = make_target(nnunet_folders)
    start_campaign(Place.of(NAME, "3d_fullres", PLANS, "0"), Settings())
    one, other = session_of(target, []), session_of(target, [])
    one.begin()
    with pytest.raises(CampaignError, match="is in use by process"):
        other.begin()
    one.end()
    other.begin()
    other.end()


def test_a_scan_that_came_after_the_patients_were_named_is_told_of_when_it_may_be_asked_for(nnunet_folders):
    target, said = make_target(nnunet_folders, labelled=1, unlabelled=2), []
    groups = {"table": {"case_0": "p", "case_1": "q"}}
    start_campaign(Place.of(NAME, "3d_fullres", PLANS, "0"), Settings(budget=1, groups=groups))
    session = session_of(target, said)
    session.begin()
    session.query_if_due(0, network(), torch.device("cpu"))
    session.end()
    assert sum("--groups does not say whose case_2 is" in line for line in said) == 1
