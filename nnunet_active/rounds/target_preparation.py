"""From a folder of scans and a model to a data set on which a network can be asked: planned, preprocessed, nothing done twice."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.data.cases import CaseStore, open_store, read_plans
from nnunet_active.data.preprocessing import PreprocessingReport, preprocess_dataset
from nnunet_active.data.raw_dataset import RawDataset, read_pool_folders, remember_pool_folder
from nnunet_active.nnunet.nnunet_paths import preprocessed_folder, raw_folder
from nnunet_active.planners.source_model_planner import SourceModelPlanner, read_sources
from nnunet_active.rounds.commands import DEFAULT_PLANS
from nnunet_active.rounds.time_budget import AnnotationTime
from nnunet_active.util.errors import ActiveError, CampaignError, MissingInput
from nnunet_active.util.log import Log


@dataclass(frozen=True)
class SelectOptions:
    """What ``nnunet_active select`` was asked for.

    Attributes:
        dataset: full name.
        configuration, plans: None: those of the campaign.
        fold: of the campaign.
        model, model_folds, trust: see :func:`~nnunet_active.rounds.asking_model.find_models`.
        n: cases; None: what the campaign's next query asks for, at first :data:`~nnunet_active.rounds.commands.DEFAULT_SIZE`.
        strategy, strategy_options, seed: of this round; None: the campaign's.
        settings: further settings by name, for a campaign that is started now.
        pool_folders: further folders of unlabelled images; remembered.
        exclude: never to be asked for.
        must_include: chosen in any case.
        minutes: time of the expert; cases are chosen as long as they fit.
        time: what a case takes.
        processes: for preprocessing.
        device: for the network.
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
    minutes: float | None = None
    time: AnnotationTime = field(default_factory=AnnotationTime)
    processes: int = 2
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


@dataclass
class Target:
    """A data set that is planned and preprocessed.

    Attributes:
        options: what was asked for; configuration and plans are known now.
        raw: the scans.
        plans, dataset_json: as nnU-Net preprocessed them.
        store: the preprocessed cases.
        report: what preprocessing did.
    """

    options: SelectOptions
    raw: RawDataset
    plans: dict
    dataset_json: dict
    store: CaseStore
    report: PreprocessingReport

    @property
    def folder(self) -> Path:
        """``nnUNet_preprocessed/DatasetXXX``."""
        return self.store.dataset_folder


def existing_campaign(dataset: str, fold: str) -> Campaign | None:
    """The campaign of a fold, if there is one."""
    folder = preprocessed_folder(dataset)
    return Campaign.open(folder, fold) if (Campaign.folder_of(folder, fold) / "campaign.json").is_file() else None


def prepare(options: SelectOptions, log: Log = print) -> Target:
    """Plan from the model where there are no plans, and preprocess what is missing.

    Raises:
        MissingInput, CampaignError: no plans and no model; or other plans or another configuration than the campaign's.
    """
    options = _with_campaign(options)
    name, folder = options.dataset, preprocessed_folder(options.dataset)
    # opened before it is remembered: a folder with a name clash would else stop every later command
    raw = RawDataset(raw_folder(name), [*read_pool_folders(folder), *options.pool_folders])
    for pool in options.pool_folders:
        remember_pool_folder(folder, pool)
    for case in (*options.exclude, *options.must_include):
        _check_known(case, raw)
    if not (folder / f"{options.plans}.json").is_file() and options.model is not None:
        fold = options.model_folds[0] if options.model_folds else None
        sources = read_sources(options.model, [options.configuration], fold, trust=options.trust)
        planner = SourceModelPlanner(raw.folder, sources, plans_name=options.plans)
        planner.write()
        for line in planner.lines():
            log(line)
    store = open_store(name, options.plans, options.configuration)
    # nnU-Net takes the labels from the copy beside the plans
    file = folder / "dataset.json"
    dataset_json = json.loads(file.read_text()) if file.is_file() else raw.dataset_json
    report = preprocess_dataset(raw, store, dataset_json, options.processes)
    for sentence in (*report.warnings.values(), *report.problems.values()):
        log(f"WARNING: {sentence}")
    return Target(options, raw, read_plans(name, options.plans), dataset_json, store, report)


def _with_campaign(options: SelectOptions) -> SelectOptions:
    """Configuration and plans as the campaign has them."""
    campaign = existing_campaign(options.dataset, options.fold)
    if campaign is None:
        plans = options.plans or DEFAULT_PLANS
        if options.configuration is None:
            raise MissingInput("There is no campaign yet; name the configuration with -c, e.g. -c 3d_fullres.")
        if options.model is None and not (preprocessed_folder(options.dataset) / f"{plans}.json").is_file():
            raise MissingInput(
                f"There are no plans {plans} for {options.dataset} yet; name the source model with -m, and they are made from it."
            )
        return replace(options, plans=plans)
    for flag, wanted, there in (
        ("-c", options.configuration, campaign.configuration),
        ("-p", options.plans, campaign.plans),
    ):
        if wanted is not None and wanted != there:
            raise CampaignError(
                f"The campaign of fold {campaign.fold} is for {flag} {there}, not {wanted}; use another fold with -f."
            )
    return replace(options, configuration=campaign.configuration, plans=campaign.plans)


def _check_known(case: str, raw: RawDataset) -> None:
    if case not in raw.cases and case not in raw.problems:
        similar = difflib.get_close_matches(case, list(raw.cases), n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(similar)}?" if similar else "."
        raise ActiveError(f"{raw.name} has no case {case}{hint}")
