from __future__ import annotations

from collections import Counter

import pytest
import tiny_source
from counted_opens import count_opens
from tiny_campaign import edit
from tiny_rounds import CONFIGURATION, plan_another, start, trained
from tiny_target import NAME, PLANS

from nnunet_active.rounds.between_rounds import select
from nnunet_active.rounds.next_step import next_step
from nnunet_active.rounds.target_preparation import SelectOptions
from nnunet_active.training.session import QuerySession
from nnunet_active.util.errors import MissingInput
from nnunet_active.workspace import Workspace


@pytest.fixture
def opened(monkeypatch) -> Counter:
    return count_opens(monkeypatch)


def options(**more) -> SelectOptions:
    return SelectOptions(NAME, **{"configuration": CONFIGURATION, "processes": 1, "n": 1, "strategy": "assft", **more})


def test_a_round_opens_the_campaign_the_plans_and_each_model_once(target, opened):
    assert select(options(), log=lambda text: None).outcome == "asked"
    assert set(opened.values()) == {1}, opened
    trained(target, labelled=["case_0"])
    opened.clear()
    result = select(options(), more=True, log=lambda text: None)
    next_step(result.workspace)
    assert result.outcome == "asked"
    source = target.preprocessed / "active" / "source" / f"{PLANS}__{CONFIGURATION}" / "fold_0" / "checkpoint_final.pth"
    own = target.results / NAME / f"nnUNetTrainerActive__{PLANS}__{CONFIGURATION}" / "fold_0" / "checkpoint_final.pth"
    assert dict(opened) == {"campaign 0": 1, f"{NAME}/{PLANS}.json": 1, str(source): 1, str(own): 1}


def test_each_piece_is_opened_when_it_is_asked_for_and_kept(target, opened):
    start()
    opened.clear()
    workspace = Workspace(NAME)
    assert not opened
    assert workspace.campaign is workspace.campaign and workspace.store is workspace.store
    assert workspace.source is workspace.source and workspace.raw is workspace.raw
    assert (workspace.configuration, workspace.plans_name) == (CONFIGURATION, PLANS)
    assert len(workspace.candidates()) == 5 and workspace.channel_names == list(tiny_source.GLIOMA)
    assert workspace.class_names == list(tiny_source.TUMOUR) and set(opened.values()) == {1}


def test_a_model_is_read_once_for_each_of_its_folds(target, opened):
    tiny_source.write_trained(tiny_source.source_model(seed=7), target.model, fold="1")
    workspace = Workspace(NAME, configuration=CONFIGURATION)
    for fold in ("0", "1", "0", "1"):
        assert workspace.model(target.model, fold).fold == fold
    assert set(opened.values()) == {1} and len(opened) == 2


def test_where_nothing_is_named_and_there_is_no_campaign_the_only_configuration_is_taken_and_several_are_named(target):
    workspace = Workspace(NAME)
    assert workspace.found_campaign is None and workspace.plans_name == PLANS
    assert workspace.configuration == CONFIGURATION
    plan_another(target)
    with pytest.raises(MissingInput, match="hold 3d_fullres, 2d: name the configuration with -c"):
        Workspace(NAME).configuration  # noqa: B018
    with pytest.raises(MissingInput, match=r"Other\.json was not found; make it"):
        Workspace(NAME, plans_name="Other").configuration  # noqa: B018
    with pytest.raises(MissingInput, match="There is no campaign for fold 0"):
        workspace.campaign  # noqa: B018


def test_of_several_configurations_the_only_one_that_has_a_campaign_is_taken(target):
    plan_another(target)
    start(fold="all")
    assert Workspace(NAME).configuration == CONFIGURATION
    edit(start(), configuration="2d")
    with pytest.raises(MissingInput, match="hold 3d_fullres, 2d"):
        Workspace(NAME, "1").configuration  # noqa: B018
    assert [Workspace(NAME, fold).configuration for fold in ("0", "all")] == ["2d", CONFIGURATION]


def test_which_configuration_is_taken_is_said_where_neither_anybody_nor_a_campaign_names_it(target):
    said: list[str] = []
    Workspace(NAME, configuration="2d").tell_configuration(said.append)
    Workspace(NAME, plans_name="Other").tell_configuration(said.append)
    assert said == []
    Workspace(NAME).tell_configuration(said.append)
    assert said == [f"Configuration: {CONFIGURATION}, the only one in use with the plans {PLANS}."]
    start()
    Workspace(NAME).tell_configuration(said.append)
    assert len(said) == 1


def test_a_fold_of_a_cross_validation_finds_its_campaign_and_commands_name_that(target):
    campaign = start(folds=2)
    workspace = Workspace(NAME, "1")
    assert workspace.campaign.folder == campaign.folder
    assert workspace.commands.ingest() == "nnunet_active ingest -d 902"
    assert Workspace.of(campaign).campaign is campaign


def test_a_scan_that_was_taken_out_of_the_raw_data_is_neither_asked_for_nor_learned_from(target):
    campaign = start()
    workspace = Workspace(NAME)
    session = QuerySession(workspace, lambda text: None, target.root / "log.jsonl")
    before = workspace.candidates()
    withdrawn, kept = before[0], before[1:]
    assert session.unlabelled(0) == before
    for file in (target.raw / "imagesTr").glob(f"{withdrawn}_*"):
        file.unlink()
    assert workspace.candidates() == session.unlabelled(0) == kept
    assert withdrawn in workspace.store.identifiers() and campaign.status_of(withdrawn) == "in the pool"
    for file in (target.raw / "imagesTr").iterdir():
        file.unlink()
    assert workspace.candidates() == session.unlabelled(0) == before  # a machine that only trains has no raw images
