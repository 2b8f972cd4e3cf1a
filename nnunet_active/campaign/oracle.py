"""Where labels come from: withheld ones of a retrospective study, or files that a person puts into ``labelsTr``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.data.cases import CaseStore
from nnunet_active.data.dataset_json import used_dataset_json
from nnunet_active.data.preprocessing import preprocess_case
from nnunet_active.data.raw_dataset import RawDataset, read_pool_folders
from nnunet_active.nnunet.nnunet_paths import raw_root
from nnunet_active.util.errors import BadCase


class Oracle(Protocol):
    """Answers requests for labels."""

    def candidates(self) -> list[str]:
        """Cases for which it may be asked at all."""

    def reveal(self, cases: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """Cases of ``cases`` whose label is ready for training, and for each refused one a sentence that says why."""


class RetrospectiveOracle:
    """All labels exist; each is withheld until it is asked for (the papers' protocol)."""

    def __init__(self, store: CaseStore) -> None:
        self.store = store

    def candidates(self) -> list[str]:
        """The preprocessed cases that have a label."""
        return self.store.labelled_identifiers()

    def reveal(self, cases: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """Every case is ready: its label has been preprocessed before."""
        return list(cases), {}


class FolderOracle:
    """A case is labelled once its file is in ``labelsTr`` and passes the checks; it is then preprocessed into the training folder."""

    def __init__(self, store: CaseStore, raw_folder: Path, pool_folders: Sequence[Path] = ()) -> None:
        self.store = store
        self.raw_folder = raw_folder
        self.pool_folders = pool_folders

    def candidates(self) -> list[str]:
        """The preprocessed cases without a label."""
        return self.store.pool_identifiers()

    def reveal(self, cases: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """Look into ``labelsTr`` now; a refused file stays where it is."""
        raw = RawDataset(self.raw_folder, self.pool_folders)
        described = used_dataset_json(self.store.dataset_folder, lambda: raw.dataset_json)
        ready: list[str] = []
        refused: dict[str, str] = {}
        for case in cases:
            if case not in raw.cases or raw.cases[case].label is None:
                continue
            try:
                preprocess_case(raw.cases[case], self.store, described)
            except BadCase as error:
                refused[case] = str(error)
                continue
            ready.append(case)
        return ready, refused


def oracle_of(campaign: Campaign, store: CaseStore) -> Oracle:
    """Whom a campaign asks.

    Args:
        campaign: opened.
        store: its preprocessed cases.
    """
    if not campaign.asks_a_person:
        return RetrospectiveOracle(store)
    return FolderOracle(store, raw_root() / campaign.place.dataset, read_pool_folders(campaign.dataset_folder))
