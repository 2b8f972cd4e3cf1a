"""Plans and preprocesses a data set from a folder of scans and a model, so that a network can score it; nothing is done twice."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from nnunet_active.campaign.slice_campaigns import without_new_slices
from nnunet_active.data.image_checks import check_image, image_reader
from nnunet_active.data.preprocessing import PreprocessingReport, preprocess_dataset
from nnunet_active.data.raw_dataset import RawDataset, read_pool_folders, remember_pool_folder
from nnunet_active.models.source_model import SourceModel, carry_over, read_source_model
from nnunet_active.models.weight_transfer import TransferReport
from nnunet_active.nnunet.networks import build_network
from nnunet_active.nnunet.nnunet_paths import raw_folder, results_root
from nnunet_active.planners.source_model_planner import SourceModelPlanner
from nnunet_active.query.part_of_pool import Part
from nnunet_active.rounds.time_budget import AnnotationTime, SliceMinutes
from nnunet_active.util.errors import ActiveError, BadCase, CampaignError, MissingInput
from nnunet_active.util.log import Log
from nnunet_active.util.ranks import Ranks
from nnunet_active.workspace import Workspace


@dataclass(frozen=True)
class SelectOptions:
    """The options of ``nnunet_active select``.

    Attributes:
        dataset: full name.
        configuration, plans: None for the campaign's; if there is no campaign, the configuration of the model.
        fold: fold of the campaign.
        model, model_folds, trust: see :func:`~nnunet_active.rounds.asking_model.find_models`.
        n: number of cases or slices; None for the campaign's next query, at first :data:`~nnunet_active.commands.DEFAULT_SIZE`.
        strategy, strategy_options, seed: for this round; None for the campaign's.
        settings: further settings by name, for a campaign that is started now.
        pool_folders: further folders of unlabelled images; remembered for later calls.
        exclude: cases never to ask for.
        must_include: cases to choose in any event.
        add_ignore_label: write the ignore label into ``dataset.json`` if it is missing.
        minutes: the expert's time; cases are chosen as long as they fit.
        time: minutes that a case or its slices take; None for our guess.
        processes: number of preprocessing processes.
        device: device of the network.
        ranks: processes that share the scoring.
        part: score only this part of the pool and choose nothing.
    """

    dataset: str
    configuration: str | None = None
    plans: str | None = None
    fold: str = "0"
    model: Path | None = None
    model_folds: tuple[str, ...] | None = None
    trust: bool = False
    n: int | None = None
    strategy: str | None = None
    strategy_options: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    pool_folders: tuple[Path, ...] = ()
    exclude: tuple[str, ...] = ()
    must_include: tuple[str, ...] = ()
    add_ignore_label: bool = False
    minutes: float | None = None
    time: AnnotationTime | SliceMinutes | None = None
    processes: int = 2
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    ranks: Ranks = field(default_factory=Ranks)
    part: Part | None = None


@dataclass
class Prepared:
    """A planned and preprocessed data set, with the user's options.

    Attributes:
        options: the user's options.
        workspace: the data set; configuration and plans are known.
        report: what preprocessing did.
        opened: the result of :func:`open_target`.
    """

    options: SelectOptions
    workspace: Workspace
    report: PreprocessingReport
    opened: Opened


def open_workspace(options: SelectOptions) -> Workspace:
    """Open the data set that the options name.

    Raises:
        MissingInput: there are neither plans nor a model.
        CampaignError: fold, plans or configuration are not the campaign's.
    """
    workspace = Workspace(options.dataset, options.fold, options.configuration, options.plans)
    campaign = workspace.found_campaign
    if campaign is None:
        if options.model is None and not workspace.plans_file.is_file():
            raise MissingInput(
                f"There are no plans {workspace.plans_name} for {options.dataset} yet; name the source model with -m, and they are "
                f"made from it."
            )
        if options.configuration is None and options.model is not None:
            fold = options.model_folds[0] if options.model_folds else None
            workspace.named_configuration = read_source_model(
                options.model, None, fold, trust=options.trust
            ).configuration
        workspace.configuration  # noqa: B018 - raises if none was named
        return workspace
    if campaign.fold != options.fold:
        raise CampaignError(
            f"Fold {options.fold} of {options.dataset} belongs to the campaign of fold {campaign.fold}, which asks for all of its "
            f"{campaign.settings.folds} folds; use -f {campaign.fold}."
        )
    workspace.check_is_the_campaigns(options.configuration, options.plans)
    return workspace


@dataclass
class Opened:
    """The data set and models of a round, opened and found compatible.

    Attributes:
        options: the user's options.
        workspace: the data set, with the named pool folders.
        models: the querying folds of the named model; empty if no model was named.
        transfer: how the first of them is carried over to existing plans.
        planner: makes the plans, if there are none yet.
    """

    options: SelectOptions
    workspace: Workspace
    models: list[SourceModel]
    transfer: TransferReport | None = None
    planner: SourceModelPlanner | None = None


def open_target(options: SelectOptions) -> Opened:
    """Open and check everything that a round needs. Writes nothing.

    Raises:
        MissingInput, CampaignError: see :func:`open_workspace`; ``nnUNet_results`` is not set.
        IncompatibleSource: the named model does not fit.
        ActiveError: a case is unknown, or a pool folder clashes with the others.
    """
    workspace = open_workspace(options)
    if options.part is not None and options.part.number > 0 and not workspace.plans_file.is_file():
        raise MissingInput(
            f"There are no plans {workspace.plans_name} for {options.dataset} yet: part 0 makes them; start the other parts after that."
        )
    results_root()  # raises if it is not set; the next step needs it
    pools = [*read_pool_folders(workspace.folder), *options.pool_folders]
    raw = workspace.raw = RawDataset(raw_folder(options.dataset), pools)
    for case in (*options.exclude, *options.must_include):
        _check_known(case, raw)
    models = []
    if options.model is not None:
        folds = options.model_folds or (None,)
        models = [workspace.model(options.model, fold, trust=options.trust) for fold in folds]
    if models and not workspace.plans_file.is_file():
        planner = SourceModelPlanner(raw, models[:1], plans_name=workspace.plans_name)
        _check_readable(options.must_include, raw, planner.plan())
        return Opened(options, workspace, models, planner=planner)
    plans, dataset_json = workspace.store.plans_manager.plans, workspace.dataset_json
    _check_readable(options.must_include, raw, plans)
    reports = [
        carry_over(build_network(plans, workspace.configuration, dataset_json), model, plans, dataset_json)
        for model in models
    ]
    return Opened(options, workspace, models, reports[0] if reports else None)


def prepare(options: SelectOptions, log: Log = print, opened: Opened | None = None) -> Prepared:
    """Make plans from the model if there are none, and preprocess what is missing.

    Args:
        options: the user's options.
        log: gets messages.
        opened: from :func:`open_target`.

    Raises:
        MissingInput, CampaignError, IncompatibleSource: see :func:`open_target`; nothing was written.
    """
    opened = open_target(options) if opened is None else opened
    workspace = opened.workspace
    for pool in options.pool_folders:
        remember_pool_folder(workspace.folder, pool)
    if opened.planner is not None:
        opened.planner.write()
        workspace.source = opened.models[0]  # the model just saved beside the plans
        for line in opened.planner.lines():
            log(line)
    raw = without_new_slices(workspace.raw, workspace.store, workspace.dataset_json, workspace.found_campaign)
    report = preprocess_dataset(raw, workspace.store, workspace.dataset_json, options.processes)
    for sentence in (*report.warnings.values(), *report.problems.values()):
        log(f"WARNING: {sentence}")
    return Prepared(options, workspace, report, opened)


def _check_readable(cases: Iterable[str], raw: RawDataset, plans: dict) -> None:
    """Check that cases wanted by name can be read, before anything is written."""
    reader = image_reader(plans)
    for case in cases:
        if case in raw.cases:
            try:
                check_image(case, raw.cases[case].images, reader, len(raw.channel_names))
            except BadCase as error:
                raise CampaignError(f"--must-include {case} is not possible: {error}") from error


def _check_known(case: str, raw: RawDataset) -> None:
    if case not in raw.cases and case not in raw.problems:
        similar = difflib.get_close_matches(case, list(raw.cases), n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(similar)}?" if similar else "."
        raise ActiveError(f"{raw.name} has no case {case}{hint}")
