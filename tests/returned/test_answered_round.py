from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_campaign import begin

from nnunet_active.campaign.campaign_round import RoundContent
from nnunet_active.campaign.settings import Settings
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.returned.answered_round import answered_round


def ask(campaign, number: int, folder, wanted: dict[str, tuple[int, ...]]) -> None:
    """A round of slices, and its hand-off folder."""
    picks = list(wanted)
    table = pd.DataFrame({"mean_entropy": 0.5, "utility": 0.5}, index=picks)
    utilities = pd.DataFrame(np.ones((len(picks), len(picks))), columns=picks)
    slices = {case: SliceRequest("z", one) for case, one in wanted.items()}
    campaign.append_round(RoundContent(picks, table, utilities, pd.DataFrame({"case": picks}), slices=slices))
    campaign.record_handoff(number, folder)
    for case in picks:
        (folder / case).mkdir(parents=True, exist_ok=True)
        (folder / case / f"{case}.nii.gz").touch()
    record = {"format": 1, "dataset": campaign.place.dataset, "fold": campaign.fold, "round": number, "cases": {}}
    (folder / "handoff.json").write_text(json.dumps(record))


@pytest.fixture
def campaign(tmp_path):
    made = begin(tmp_path / "Dataset901_Tiny", "0", Settings(budget=9, unit="slice", query_size=3, per_case=2))
    ask(made, 1, tmp_path / "first", {"a": (1,), "b": (2,)})
    made.mark_labelled(["a", "b"])
    ask(made, 2, tmp_path / "second", {"a": (5,)})
    return made


def test_a_file_answers_the_round_of_its_folder_however_the_folder_is_named(campaign, tmp_path, monkeypatch):
    first, name = tmp_path / "first", "a/a.nii.gz"
    (tmp_path / "link").symlink_to(first)
    monkeypatch.chdir(tmp_path / "second")
    for folder in (first, tmp_path / "link", tmp_path / "second" / ".." / "first"):
        assert answered_round(campaign, "a", folder / name) == 1
    assert answered_round(campaign, "a", Path("../first") / name) == 1
    assert answered_round(campaign, "a", Path(name)) == 2


@pytest.mark.parametrize("move", [shutil.move, shutil.copytree])
def test_a_folder_that_was_moved_or_copied_says_itself_which_round_it_is(campaign, tmp_path, move):
    place = tmp_path / "back" / "from the annotator"
    place.parent.mkdir()
    move(tmp_path / "first", place)
    assert answered_round(campaign, "a", place / "a" / "a.nii.gz") == 1


def test_a_case_folder_behind_a_link_is_in_the_folder_that_holds_the_link(campaign, tmp_path):
    shutil.move(tmp_path / "first" / "a", tmp_path / "on the big disk")
    (tmp_path / "first" / "a").symlink_to(tmp_path / "on the big disk")
    assert answered_round(campaign, "a", tmp_path / "first" / "a" / "a.nii.gz") == 1


def test_a_file_from_anywhere_else_answers_all_that_was_asked_for(campaign, tmp_path):
    assert answered_round(campaign, "a", tmp_path / "mine" / "a.nii.gz") is None
    for what, value in (("dataset", "Dataset902_Other"), ("fold", "1"), ("round", 7), ("round", None)):
        place = shutil.copytree(tmp_path / "first", tmp_path / f"{what}_{value}")
        record = json.loads((place / "handoff.json").read_text())
        (place / "handoff.json").write_text(json.dumps({**record, what: value}))
        assert answered_round(campaign, "a", place / "a" / "a.nii.gz") is None
    (place / "handoff.json").write_text("[")
    assert answered_round(campaign, "a", place / "a" / "a.nii.gz") is None


def test_of_two_rounds_in_one_folder_the_later_one_is_answered(campaign, tmp_path):
    campaign.record_handoff(2, tmp_path / "first")
    assert answered_round(campaign, "a", tmp_path / "first" / "a" / "a.nii.gz") == 2


def test_what_a_file_of_an_earlier_round_may_label_leaves_out_what_was_asked_for_later(campaign):
    campaign.mark_labelled(["a"])  # also that of the second round
    assert campaign.handed_slices("a", 1).slices == (1,)
    assert campaign.handed_slices("a", 2).slices == campaign.handed_slices("a").slices == (1, 5)
