"""Start a campaign from what is on disk: used by ``nnunet_active init`` and by a trainer that finds no campaign."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from nnunetv2.utilities.crossval_split import generate_crossval_split

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.cross_validation import check_folds
from nnunet_active.campaign.fine_tuning import FineTuning
from nnunet_active.campaign.oracle import FolderOracle, Oracle, RetrospectiveOracle
from nnunet_active.campaign.pseudo_label_settings import PseudoLabelSettings
from nnunet_active.campaign.settings import Settings
from nnunet_active.campaign.splits import define_fold, read_splits
from nnunet_active.data.cases import CaseStore, open_store
from nnunet_active.data.raw_dataset import read_pool_folders
from nnunet_active.nnunet.nnunet_paths import preprocessed_folder, raw_root
from nnunet_active.strategies.registry import get_strategy
from nnunet_active.util.errors import CampaignError, MissingInput

Log = Callable[[str], None]


def make_oracle(kind: str, dataset: str, store: CaseStore) -> Oracle:
    """The oracle of a campaign by its name."""
    if kind == "retrospective":
        return RetrospectiveOracle(store)
    return FolderOracle(store, raw_root() / dataset, read_pool_folders(preprocessed_folder(dataset)))


def start_campaign(
    dataset: str,
    configuration: str,
    plans: str,
    fold: str,
    settings: Settings,
    oracle: str | None = None,
    restart: bool = False,
    log: Log = print,
    save: bool = True,
    made_by: str = "init",
    percent: Mapping[str, float] | None = None,
) -> Campaign:
    """Look at the labels and splits, decide who may be queried, and write ``campaign.json``.

    Args:
        dataset: full name.
        configuration: nnU-Net configuration.
        plans: plans identifier.
        fold: number, or ``all``.
        settings: how to query and train; its ``oracle`` counts only where ``oracle`` is None and cannot be found by looking.
        oracle: ``retrospective``, ``folder``, or None: retrospective if every case has a label, else folder.
        restart: set an existing campaign aside (its folder is renamed, nothing is deleted).
        log: where to tell what was decided.
        save: False decides and writes nothing.
        made_by: ``init`` or ``select``.
        percent: settings (``budget``, ``query_size``) that are given in percent of the cases to choose from, rounded up.

    Raises:
        MissingInput, CampaignError: see the message.
    """
    get_strategy(settings.strategy, **settings.strategy_options)  # an unknown name shows before anything is written
    FineTuning.of(settings.fine_tuning)
    PseudoLabelSettings.of(settings.pseudo_labels)
    if fold != "all" and not fold.isdecimal():
        raise CampaignError(f"-f {fold} is neither a number nor 'all'.")
    store = open_store(dataset, plans, configuration)
    labelled, unlabelled = store.labelled_identifiers(), store.pool_identifiers()
    if not labelled and not unlabelled:
        raise MissingInput(
            f"No preprocessed case was found in {store.folder} or {store.pool_folder}; run "
            f"nnunet_active preprocess -d {dataset} -c {configuration} -p {plans} first."
        )
    kind = oracle or ("folder" if unlabelled else "retrospective")
    folder = preprocessed_folder(dataset)
    generated = None
    if kind == "retrospective" and len(labelled) >= 5:
        generated = generate_crossval_split(sorted(labelled), seed=12345, n_splits=5)  # as nnUNetTrainer.do_split does
    raw = raw_root() / dataset
    check_folds(folder, fold, settings.folds, raw, generated)
    if settings.folds > 1:  # nobody else defined any: cases get their folds as their labels arrive
        generated = None
    definition = define_fold(folder, fold, raw, generated) if settings.folds <= 1 else None
    # a definition in the raw folder stands for all folds, also for those of later campaigns
    other_folds = read_splits(raw / "splits_final.json") or generated
    known = len(read_splits(folder / "splits_final.json") or other_folds or [])
    if definition is None and fold != "all" and int(fold) > known:
        raise CampaignError(f"Nothing defines fold {fold} of {dataset}; begin with -f {known} or -f all.")
    val = sorted(set(definition.val) & set(labelled)) if definition else []
    train = set(definition.train) if definition else set(labelled)
    if kind == "folder":
        initial = sorted((set(labelled) & train) - set(val))
        excluded = sorted(set(labelled) - set(initial) - set(val))
        queryable = unlabelled
    else:
        initial = []
        excluded = sorted(set(labelled) - train - set(val))
        queryable = sorted(set(labelled) - set(val) - set(excluded))
    # a case that the user holds out is never asked for, also while it has no label yet
    excluded = sorted({*excluded, *((set(definition.val) & set(unlabelled)) if definition else ())})
    pool = len(set(queryable) - set(excluded))
    counts = {name: max(1, math.ceil(round(share * pool / 100, 9))) for name, share in (percent or {}).items()}
    settings = replace(settings, oracle=kind, **counts)
    if restart:
        set_aside(Campaign.folder_of(folder, fold), log)
    campaign = Campaign.create(
        folder,
        fold,
        configuration,
        plans,
        settings,
        initial=initial,
        val=val,
        excluded=excluded,
        other_folds=other_folds,
        split_origin=definition.origin if definition else "",
        save=save,
        made_by=made_by,
    )
    log(
        f"Campaign of {dataset} {configuration} fold {fold}: {pool} cases to choose from, "
        f"{len(initial)} labelled from the start, {len(val)} held out"
        + (f" ({definition.origin})" if definition else "")
        + f"; oracle {kind}, strategy {settings.strategy}, budget {settings.budget}."
    )
    if settings.folds > 1:
        log(
            f"Each labelled case belongs to one of {settings.folds} folds from its arrival on; splits_final.json holds them "
            f"all as soon as every fold has a case."
        )
    elif not val:
        log(
            "WARNING: no labelled case is held out, so validation runs on the training cases and says nothing about new ones."
        )
    return campaign


def set_aside(folder: Path, log: Log = print) -> None:
    """Rename a campaign's folder, so that a new one can begin; nothing is deleted."""
    if folder.is_dir():
        kept = folder.with_name(f"{folder.name}_until_{datetime.now():%Y%m%d_%H%M%S}")
        while kept.exists():
            kept = kept.with_name(kept.name + "_")
        folder.rename(kept)
        log(f"The campaign so far was kept as {kept.name}.")
