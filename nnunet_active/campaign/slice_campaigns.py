"""Labels that come slice by slice: what lies in ``labelsTr`` has to be joined with what was labelled before, and then preprocessed."""

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
    """Cases of which any campaign of a data set has asked a person for slices, or knows some.

    Args:
        dataset_folder: ``nnUNet_preprocessed/DatasetXXX``; a campaign that cannot be read is passed over.
        opened: a campaign of it that need not be read again.
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
    """What may be preprocessed of a data set: all but labels of slices that came or changed and that ``ingest`` has to take up.

    Args:
        raw: the data set; it stays as it is.
        store: where its cases go.
        dataset_json: for the labels.
        opened: see :func:`labelled_by_slices`.

    Returns:
        A copy; its warnings name the labels that were left out. A case whose earlier label is in use is left out as a whole.
    """
    by_slices = labelled_by_slices(store.dataset_folder, opened)
    ready = copy.copy(raw)
    ready.cases, ready.warnings = dict(raw.cases), dict(raw.warnings)
    for name, case in raw.cases.items():
        if name not in by_slices or case.label is None or has_ground_truth(case, store, dataset_json):
            continue
        ready.warnings[name] = (
            f"Case {name}: the label {case.label} is not taken up yet; nnunet_active ingest does that, and keeps the slices that were "
            f"labelled before."
        )
        ready.cases[name] = replace(case, label=None)
        if is_whole(store.folder, name, with_label=True):
            del ready.cases[name]
    return ready
