from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pandas as pd
import pytest
from tiny_campaign import begin, edit

import nnunet_active
from nnunet_active.campaign.campaign_round import RoundContent
from nnunet_active.campaign.settings import Settings

PACKAGE = Path(nnunet_active.__file__).parent


@pytest.fixture
def campaign(tmp_path):
    settings = Settings(budget=4, query_size=2, oracle="folder")
    campaign = begin(tmp_path, settings=settings, initial=["i"], val=["v"], excluded=["x"])
    frame = pd.DataFrame({"utility": [2.0, 1.0, 0.0]}, index=["a", "b", "c"])
    campaign.append_round(RoundContent(["a", "b", "c"], frame, frame.T, frame))
    campaign.mark_labelled(["a", "u"])
    campaign.decline(["b"], "moved")
    return campaign


def test_every_case_has_one_status(campaign):
    expected = {
        "i": "labelled",
        "v": "held out",
        "x": "excluded",
        "a": "labelled",
        "u": "labelled",
        "b": "declined",
        "c": "waiting",
        "new": "in the pool",
    }
    assert {case: campaign.status_of(case) for case in expected} == expected
    assert campaign.waiting() == ["c"] and campaign.pool(expected) == ["new"]


@pytest.mark.parametrize(
    ("made_by", "came", "wait", "halting"),
    [
        ("select", [], False, ["a", "b"]),  # perhaps its labels only have to be ingested
        ("select", ["a"], False, []),
        ("select", ["a"], True, ["b"]),
        ("training", ["a"], False, ["b"]),
    ],
)
def test_a_training_takes_the_labels_of_a_round_by_select_that_are_there(tmp_path, made_by, came, wait, halting):
    campaign = begin(tmp_path, settings=Settings(budget=4, oracle="folder", wait=wait), initial=["i"])
    frame = pd.DataFrame({"utility": [2.0, 1.0]}, index=["a", "b"])
    campaign.append_round(RoundContent(["a", "b"], frame, frame.T, frame), made_by=made_by)
    campaign.mark_labelled(came)
    assert campaign.halting() == halting


def test_without_any_label_a_training_is_halted(tmp_path):
    campaign = begin(tmp_path, settings=Settings(budget=4, oracle="folder"))
    frame = pd.DataFrame({"utility": [2.0]}, index=["a"])
    campaign.append_round(RoundContent(["a"], frame, frame.T, frame), made_by="select")
    assert campaign.halting() == ["a"]


@pytest.mark.parametrize("stays", [False, True])
def test_a_hand_off_folder_in_the_raw_data_goes_with_it_and_a_copied_data_set_has_its_own(tmp_path, monkeypatch, stays):
    for disk in ("old", "new"):
        (tmp_path / disk / "raw" / "Dataset902_Tiny" / "annotate" / "fold_0_round_001").mkdir(parents=True)
        (tmp_path / disk / "raw" / "Dataset902_Tiny" / "dataset.json").touch()
    old, new = (next((tmp_path / disk).rglob("fold_0_round_001")) for disk in ("old", "new"))
    (tmp_path / "elsewhere").mkdir()
    campaign = begin(tmp_path / "Dataset902_Tiny", settings=Settings(budget=4, oracle="folder"))
    campaign.record_handoff(1, old)
    campaign.record_handoff(2, tmp_path / "elsewhere")
    if not stays:
        shutil.rmtree(tmp_path / "old")
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "new" / "raw"))
    assert campaign.handoff_folder(1) == new and campaign.handoff_folder(2) == tmp_path / "elsewhere"
    monkeypatch.delenv("nnUNet_raw")
    assert campaign.handoff_folder(1) == old


@pytest.mark.parametrize("inner", ["", "annotate"])
def test_a_hand_off_folder_elsewhere_that_is_called_after_the_data_set_stays_where_it_is(tmp_path, monkeypatch, inner):
    (tmp_path / "raw" / "Dataset902_Tiny" / "annotate").mkdir(parents=True)
    shared = tmp_path / "share" / "Dataset902_Tiny" / inner
    shared.mkdir(parents=True)
    campaign = begin(tmp_path / "Dataset902_Tiny", settings=Settings(budget=4, oracle="folder"))
    campaign.record_handoff(1, shared)
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    assert campaign.handoff_folder(1) == shared


def test_labels_that_nobody_asked_for_are_those_of_cases_that_the_campaign_does_not_know(campaign):
    assert campaign.unasked(["new", "another", "i", "v", "x", "a", "b", "c", "u"]) == ["another", "new"]


def test_what_came_after_the_start_is_known_in_its_order(campaign):
    assert campaign.revealed() == ["a", "u"] and campaign.labelled() == ["a", "i", "u"]


def test_the_oracle_is_asked(campaign):
    assert campaign.asks_a_person
    settings = {**campaign.settings.to_json(), "oracle": "retrospective"}
    assert not edit(campaign, settings=settings).asks_a_person


def sources():
    folders = [PACKAGE, PACKAGE.parent / "trainers", PACKAGE.parent / "planners", PACKAGE.parent / "benchmarks"]
    return [file for folder in folders for file in sorted(folder.rglob("*.py"))]


def test_nobody_outside_the_folder_touches_the_state_of_a_campaign_or_compares_its_oracle():
    found = []
    for file in sources():
        if file.parent.name == "campaign":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in ("state", "_state"):
                owner = ast.unparse(node.value)
                if "campaign" in owner.lower():
                    found.append(f"{file.name}:{node.lineno} {owner}.{node.attr}")
            if isinstance(node, ast.Compare) and "oracle" in ast.unparse(node.left):
                found.append(f"{file.name}:{node.lineno} {ast.unparse(node)}")
    assert len(sources()) > 100 and found == []


def test_a_round_is_answered_once_it_has_brought_a_label(campaign):
    assert campaign.rounds_answered() == 1
    frame = pd.DataFrame({"utility": [1.0]}, index=["d"])
    campaign.append_round(RoundContent(["d"], frame, frame.T, frame))
    assert campaign.rounds_answered() == 1
    campaign.mark_labelled(["d"])
    assert campaign.rounds_answered() == 2
