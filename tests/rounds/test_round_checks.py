from __future__ import annotations

import json
import shutil

import pytest
import tiny_source
from tiny_rounds import request, start
from tiny_target import NAME, PLANS

from nnunet_active.cli.main import main
from nnunet_active.returned.ingest import ingest
from nnunet_active.rounds.between_rounds import HandOff, select
from nnunet_active.rounds.target_preparation import SelectOptions
from nnunet_active.util.errors import ActiveError, CampaignError, MissingInput
from nnunet_active.util.log import silent


def options(**more) -> SelectOptions:
    return SelectOptions(NAME, **{"configuration": "3d_fullres", "processes": 1, "n": 1, "strategy": "random", **more})


def files(target) -> dict:
    """Everything there is, with its content."""
    return {path: path.read_bytes() if path.is_file() else None for path in target.root.rglob("*")}


@pytest.fixture
def unplanned(target):
    """Scans and a model, and nothing else: whatever is written shows."""
    shutil.rmtree(target.preprocessed)
    return target


BAD_STRATEGY = "class Broken:\n    def __init__(self) -> None:\n        raise ValueError('no')\n"


@pytest.mark.parametrize(
    "flags",
    [
        ["--seed", "-1"],
        ["--must-include", "case_0"],
        ["--model-folds", "0", "9"],
        ["-f", "0", "1", "2"],
        ["--strategy", "nowhere.py:Broken"],
        ["--strategy", "entropy", "--strategy-option", "nothing=1"],
        ["--lr", "nan"],
        ["--epochs", "0"],
        ["--folds", "0"],
        ["--folds", "3", "-f", "1"],
        ["-f", "7"],
        ["--recipe", "hot"],
        ["-n", "1", "--must-include", "case_1", "case_2"],
        ["--exclude", "case_1", "--must-include", "case_1"],
        ["--pool", "nowhere"],
        ["-o", "a-file"],
        ["--time-budget", "nan"],
        ["--minutes", "inf", "0", "0"],
        ["-np", "0"],
        ["-p", "../x"],
    ],
    ids=" ".join,
)
def test_a_mistake_leaves_no_plans_no_preprocessed_case_and_no_campaign(unplanned, monkeypatch, flags):
    (unplanned.root / "a-file").write_text("mine")
    monkeypatch.chdir(unplanned.root)
    before = files(unplanned)
    try:
        code = main(["select", "-d", "902", "-c", "3d_fullres", "-m", str(unplanned.model), "-device", "cpu", *flags])
    except SystemExit as end:  # argparse's own
        code = end.code
    assert code == 2 and files(unplanned) == before


def test_without_the_results_folder_nothing_is_scored_or_written(unplanned, monkeypatch):
    monkeypatch.delenv("nnUNet_results")
    before = files(unplanned)
    with pytest.raises(MissingInput, match="nnUNet_results is not set"):
        select(options(model=unplanned.model), log=silent)
    assert files(unplanned) == before


def test_a_model_that_does_not_fit_the_plans_changes_nothing(target):
    other = tiny_source.source_model(residual=True)
    tiny_source.write_trained(other, target.root / "other")
    before = files(target)
    with pytest.raises(ActiveError):
        select(options(model=target.root / "other"), log=silent)
    assert files(target) == before


@pytest.mark.parametrize("name", ["splits_final.json", "active/splits_written.json"])
def test_a_damaged_split_file_stops_select_and_ingest_before_anything_moves(target, name):
    campaign = start()
    request(campaign, "case_1")
    with campaign.lock():
        campaign.write_split()
    folder = target.root / "labels"
    folder.mkdir()
    shutil.move(target.label("case_1"), folder)
    (target.preprocessed / name).write_text("{")
    before = files(target)
    with pytest.raises(CampaignError, match="splits"):
        ingest(NAME, folders=[folder], log=silent)
    with pytest.raises(CampaignError, match="splits"):
        select(options(), log=silent)
    assert files(target) == before


def test_another_place_for_a_folder_with_finished_labels_is_refused_before_the_round(target, tmp_path):
    first = select(options(), log=silent)
    case = first.query.requested[0]
    shutil.copy(target.label(case, 3), first.handed_over[0].folder / case / f"{case}.nii.gz")
    (target.raw / "labelsTr" / f"{case}.nii.gz").unlink()
    before = files(target)
    with pytest.raises(CampaignError, match="holds finished labels"):
        select(options(), more=True, place=HandOff(tmp_path / "elsewhere" / "deep"), log=silent)
    assert files(target) == before


def test_a_training_that_would_end_before_it_asks_is_not_left_the_question(target):
    campaign = start(budget=1, query_size=1, epochs=40, stride=40)
    request(campaign, "case_1")
    with campaign.lock():
        campaign.mark_labelled(["case_1"])
    before = json.loads((target.preprocessed / "active" / "fold_0" / "campaign.json").read_text())
    with pytest.raises(CampaignError, match=r"Ask now .* due before epoch 40, and a training .* ends after 40 epochs"):
        select(options(strategy=None), in_training=True, log=silent)
    assert json.loads((target.preprocessed / "active" / "fold_0" / "campaign.json").read_text()) == before
    assert select(options(strategy=None), log=silent).outcome == "asked"


def test_the_plans_folder_of_a_campaign_that_never_began_is_not_made(unplanned):
    with pytest.raises(ActiveError, match="magic"):
        select(options(strategy="magic", model=unplanned.model), log=silent)
    assert not unplanned.preprocessed.exists() and PLANS
