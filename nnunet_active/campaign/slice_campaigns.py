"""Keeps labels of new slices out of preprocessing until ``ingest`` has joined them with the slices labelled before."""

from __future__ import annotations

import copy
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.data.campaign_files import campaign_files
from nnunet_active.data.cases import CaseStore, is_whole
from nnunet_active.data.label_intake import has_ground_truth
from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.util.errors import ActiveError


def labelled_by_slices(dataset_folder: Path, opened: Campaign | None = None) -> set[str]:
    """Cases for which any campaign of a data set has asked a person for slices, or knows labelled slices.

    Args:
        dataset_folder: ``nnUNet_preprocessed/DatasetXXX``; a campaign that cannot be read is skipped.
        opened: one of its campaigns that need not be read again.
    """
    found: set[str] = set()
    for fold, file in campaign_files(dataset_folder).items():
        with suppress(ActiveError):
            known = opened is not None and opened.folder == file.parent
            campaign = opened if known else Campaign.open(dataset_folder, fold)
            if campaign.adopt().asks_for_slices and campaign.asks_a_person:
                found |= {*campaign.asked_slices(), *campaign.known_slices()}
    return found


def without_new_slices(
    raw: RawDataset, store: CaseStore, dataset_json: dict, opened: Campaign | None = None
) -> RawDataset:
    """The part of a data set that may be preprocessed: without new or changed labels of slices, which ``ingest`` must take first.

    Args:
        raw: the data set; not changed.
        store: where its preprocessed cases go.
        dataset_json: defines the labels.
        opened: see :func:`labelled_by_slices`.

    Returns:
        A copy; its warnings name the labels that were left out. A case whose earlier label is in use is left out completely.
    """
    by_slices = labelled_by_slices(store.dataset_folder, opened)
    ready = copy.copy(raw)
    ready.cases, ready.warnings = dict(raw.cases), dict(raw.warnings)
    for name, case in raw.cases.items():
        if name not in by_slices or case.label is None or has_ground_truth(case, store, dataset_json):
            continue
        ready.warnings[name] = (
            f"Case {name}: the label {case.label} is not ingested yet; nnunet_active ingest does that, and keeps the slices that were "
            f"labelled before."
        )
        ready.cases[name] = replace(case, label=None)
        if is_whole(store.folder, name, with_label=True):
            del ready.cases[name]
    return ready
