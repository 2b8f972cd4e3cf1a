"""Checks a round before anything is written, so that a ``select`` that cannot succeed changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnunet_active.annotation.records import HANDOFF_FILE, read_handoff
from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_start import draft_campaign
from nnunet_active.campaign.cross_validation import check_switch_on
from nnunet_active.campaign.fine_tuning import default_recipe, recipe
from nnunet_active.campaign.settings import UNITS, Settings, check_slice_settings
from nnunet_active.campaign.splits import check_split_files, edited_by_hand
from nnunet_active.commands import DEFAULT_SIZE, DEFAULT_SLICES
from nnunet_active.data.ignore_label import require_ignore_value
from nnunet_active.rounds.asking_model import find_models
from nnunet_active.rounds.hand_over import check_moves
from nnunet_active.rounds.source_checks import check_asking_model
from nnunet_active.rounds.target_preparation import Opened, SelectOptions
from nnunet_active.rounds.time_budget import AnnotationTime, SliceMinutes
from nnunet_active.strategies.registry import get_strategy
from nnunet_active.util.errors import CampaignError, MissingInput
from nnunet_active.util.log import Log, silent
from nnunet_active.util.strategy_files import found_from_anywhere
from nnunet_active.workspace import Workspace


def settings_of(options: SelectOptions, in_training: bool) -> Settings:
    """Settings of a campaign that this call would start. Its budget is this round.

    Raises:
        CampaignError: a setting is not valid.
    """
    unit = options.settings.get("unit", UNITS[0])
    in_slices = unit == "slice"
    check_slice_settings(options.settings, unit)
    size = options.n or (DEFAULT_SLICES if in_slices else DEFAULT_SIZE)
    settings: dict[str, Any] = {
        "budget": size,
        "query_size": 1 if in_training and not in_slices else size,
        "strategy_options": options.strategy_options,
        "fine_tuning": recipe(default_recipe(unit)),
        **options.settings,
    }
    settings |= {name: value for name in ("strategy", "seed") if (value := getattr(options, name)) is not None}
    return Settings(**settings)


def check_round(opened: Opened, more: bool, in_training: bool, folder: Path | None, log: Log = silent) -> None:
    """Refuse a round that cannot be completed. Writes nothing.

    Args:
        opened: the user's options, opened.
        more: whether to ask for further cases while some wait.
        in_training: whether the next training asks.
        folder: the named hand-off folder, if any.
        log: gets sentences about what will happen.

    Raises:
        ActiveError: see the message.
    """
    options, workspace = opened.options, opened.workspace
    check_split_files(workspace.folder)
    campaign = workspace.found_campaign
    if campaign is None:
        made_by = "init" if in_training else "select"
        everyone = (workspace.raw.labelled, workspace.raw.unlabelled)
        draft = draft_campaign(workspace.place, settings_of(options, in_training), made_by=made_by, cases=everyone)
        campaign = draft.in_memory(silent)
    else:
        check_unchanged(campaign, options)
        if edited := edited_by_hand(workspace.folder, campaign.split_entries()):
            log(f"WARNING: {edited}")
        if (folds := options.settings.get("folds")) is not None:
            check_switch_on(campaign, folds, workspace.raw.folder)
    if options.strategy is not None:
        get_strategy(options.strategy, **options.strategy_options)
    elif options.strategy_options:
        get_strategy(campaign.settings.strategy, **options.strategy_options)
    check_named_cases(campaign, workspace, options)
    _check_time(campaign, options)
    if campaign.asks_for_slices and not options.add_ignore_label:
        beside = workspace.folder / "dataset.json"
        file = beside if beside.is_file() else workspace.raw.folder / "dataset.json"
        require_ignore_value(workspace.dataset_json, file)
    if options.n is not None and len(options.must_include) > options.n:
        raise CampaignError(
            f"-n {options.n} is less than the {len(options.must_include)} cases of --must-include; raise it."
        )
    if in_training:
        _check_left_to_training(campaign, options)
        check_training_asks(campaign)
        return
    if opened.models:
        for sentence in check_asking_model(workspace, opened.models[0]):
            log(sentence)
    elif workspace.found_campaign is None or more or not campaign.waiting():
        _check_own_model(workspace, options)
    _check_folder(workspace, folder)


def _check_left_to_training(campaign: Campaign, options: SelectOptions) -> None:
    """Refuse what would not count if the next training asks, by the settings of the campaign, which this call may begin."""
    given = {"must-include": options.must_include, "time-budget": options.minutes}
    for name in ("strategy", "strategy_options", "seed"):
        value = found_from_anywhere(getattr(options, name))  # as the settings keep it
        if value != getattr(campaign.settings, name):
            given[name.removesuffix("s").replace("_", "-")] = value
    for flag, value in given.items():
        if value not in (None, (), {}):
            raise CampaignError(
                f"--{flag} does not go with --in-training: the next training asks, by the campaign's settings alone; leave one out."
            )


def _check_time(campaign: Campaign, options: SelectOptions) -> None:
    if campaign.asks_for_slices and isinstance(options.time, AnnotationTime):
        raise CampaignError("--minutes has three numbers, those for whole cases; for slices it takes two: CASE SLICE.")
    if not campaign.asks_for_slices and isinstance(options.time, SliceMinutes):
        raise CampaignError(
            "--minutes has two numbers, those for slices; for whole cases it takes three: CASE OBJECT CM3."
        )
    if options.time is not None and options.minutes is None and not campaign.asks_for_slices:
        raise CampaignError("--minutes goes with --time-budget, which says how many minutes there are.")


def check_unchanged(campaign: Campaign, options: SelectOptions) -> None:
    """Refuse changed settings: they are fixed when a campaign starts. Repeating the same values is allowed."""
    for name, value in options.settings.items():
        there = getattr(campaign.settings, name)
        flag = "lr" if name == "initial_lr" else "recipe" if name == "fine_tuning" else name.replace("_", "-")
        if name not in ("folds", "budget", "query_size") and value != there:
            raise CampaignError(
                f"The campaign of fold {campaign.fold} has --{flag} {_in_words(there)}, not {_in_words(value)}; settings are fixed "
                f"when a campaign starts (nnunet_active init --restart begins another)."
            )


def _in_words(value: object) -> str:
    """A setting as people know it: no value is the trainer's, and no settings are those of the recipe plain."""
    if isinstance(value, dict):
        return ":".join(f"{name}={one}" for name, one in value.items()) or "plain"
    return "(the trainer's own)" if value is None else str(value)


def check_named_cases(campaign: Campaign, workspace: Workspace, options: SelectOptions) -> None:
    """Refuse to exclude a waiting case, or to include a case that cannot be asked for."""
    waiting = set(campaign.waiting())
    for case in options.exclude:
        if case in waiting:
            raise CampaignError(f"{case} was asked for already; decline it with nnunet_active ingest --decline {case}.")
        if case in options.must_include:
            raise CampaignError(f"{case} cannot be both included and excluded.")
    for case in options.must_include:
        raw = workspace.raw.cases.get(case)
        reason = workspace.raw.problems.get(case) if raw is None else why_not(campaign, case)
        if not reason and campaign.asks_a_person and raw.label is not None and not campaign.asks_for_slices:
            reason = "it has a label already."
        if not reason and not campaign.asks_a_person and raw.label is None:
            reason = "it has no label that could be withheld."
        if reason:
            raise CampaignError(f"--must-include {case} is not possible: {reason}")


def why_not(campaign: Campaign, case: str) -> str:
    """Why the campaign does not allow a case to be asked for; empty if it does."""
    if campaign.pool([case]):
        return ""
    return {
        "labelled": "it has a label already.",
        "declined": "it was declined before.",
        "waiting": "it was asked for already.",
        "held out": "it is held out for validation.",
        "excluded": "it is excluded.",
    }.get(campaign.status_of(case), "it cannot be asked for.")


def check_training_asks(campaign: Campaign) -> None:
    """Refuse to leave the query to a training that would end before it is due.

    Raises:
        CampaignError: says when the query is due and when the training ends.
    """
    if not campaign.training_will_ask():
        raise CampaignError(
            f"Ask now (leave --in-training out), or begin another campaign with nnunet_active init --restart: the next query of a "
            f"training is due before epoch {campaign.epoch_of_next_query()}, and a training of this campaign ends after "
            f"{campaign.settings.epochs} epochs."
        )


def _check_own_model(workspace: Workspace, options: SelectOptions) -> None:
    """Check that there is a network that can query: the campaign's own model, or the source. The workspace keeps what is read."""
    if workspace.found_campaign is not None:
        find_models(workspace, None, options.model_folds, options.trust)
    elif options.model_folds:
        raise CampaignError("--model-folds names folds of a model; name the model with -m.")
    else:
        workspace.source  # noqa: B018 - raises if there is none


def _check_folder(workspace: Workspace, folder: Path | None) -> None:
    if folder is None:
        return
    if folder.exists() and not folder.is_dir():
        raise MissingInput(f"-o {folder} is a file; name a folder for the hand-off.")
    if (folder / HANDOFF_FILE).is_file():
        there = read_handoff(folder)
        if there["cases"] and there.get("dataset") != workspace.dataset:
            raise MissingInput(
                f"{folder} is the hand-off folder of {there.get('dataset')}, not of {workspace.dataset}; name another folder."
            )
    if workspace.found_campaign is not None and workspace.plans_file.is_file():
        check_moves(workspace, folder)
