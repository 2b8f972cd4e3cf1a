"""The oracles, which provide labels: withheld labels of a retrospective study, or files that a person puts into ``labelsTr``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.data.cases import CaseStore
from nnunet_active.data.dataset_json import ignore_value, used_dataset_json
from nnunet_active.data.partial_labels import is_partial, labelled_slices
from nnunet_active.data.raw_dataset import RawCase, RawDataset, read_pool_folders
from nnunet_active.data.slice_map import NUMPY_AXIS
from nnunet_active.nnunet.nnunet_paths import raw_root
from nnunet_active.util.errors import BadCase


class Oracle(Protocol):
    """Answers requests for labels.

    Attributes:
        slices: the labelled slices of the revealed cases; None for all that were asked for.
    """

    slices: dict[str, SliceRequest] | None

    def candidates(self) -> list[str]:
        """Cases that may be asked for at all."""

    def reveal(self, cases: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """Those of ``cases`` whose label is ready for training; and for each refused case, a sentence that says why."""


class RetrospectiveOracle:
    """All labels exist; each is withheld until it is asked for (the papers' protocol)."""

    slices: dict[str, SliceRequest] | None = None

    def __init__(self, store: CaseStore) -> None:
        self.store = store

    def candidates(self) -> list[str]:
        """The preprocessed cases that have a label."""
        return self.store.labelled_identifiers()

    def reveal(self, cases: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """All cases are ready, since their labels are preprocessed already."""
        return list(cases), {}


class FolderOracle:
    """A case is labelled once its file is in ``labelsTr`` and passes the checks; it is then preprocessed into the training folder.

    Args:
        store: the preprocessed cases.
        raw_folder: raw folder of the data set.
        pool_folders: further folders of images.
        waiting: slices that wait for a label, by case; empty if whole cases are asked for.
        partly: cases with some labelled slices; their other slices may be asked for.
    """

    def __init__(
        self,
        store: CaseStore,
        raw_folder: Path,
        pool_folders: Sequence[Path] = (),
        waiting: Mapping[str, SliceRequest] | None = None,
        partly: Iterable[str] = (),
    ) -> None:
        self.waiting, self.partly = dict(waiting or {}), tuple(partly)
        self.slices: dict[str, SliceRequest] | None = None
        self.store = store
        self.raw_folder = raw_folder
        self.pool_folders = pool_folders

    def candidates(self) -> list[str]:
        """The preprocessed cases without a label, and the partly labelled ones."""
        return sorted({*self.store.pool_identifiers(), *self.partly})

    def _answered(self, case: RawCase, raw: RawDataset) -> SliceRequest | None:
        """The waiting slices of a case that its file in ``labelsTr`` labels.

        Raises:
            BadCase: the file cannot be read, or labels the whole scan.
        """
        # not above: it imports SimpleITK and more, which candidates() does not need
        from nnunet_active.data.label_reader import read_label

        request, ignore = self.waiting[case.identifier], ignore_value(raw.dataset_json)
        reader = self.store.plans_manager.image_reader_writer_class
        label = read_label(
            case.identifier, case.label, case.images[0], raw.dataset_json, reader, raw.file_ending
        ).voxels
        if not is_partial(label, ignore):
            raise BadCase(
                f"Case {case.identifier}: {request.words()} were asked for, and {case.label} has no voxel of the ignore label, as if "
                f"the whole scan were labelled; take it back with nnunet_active ingest --from its folder."
            )
        there = labelled_slices(label, NUMPY_AXIS[request.axis], ignore)
        return request.within(SliceRequest(request.axis, tuple(there)) if there else None)

    def reveal(self, cases: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """Take the labels that are in ``labelsTr`` now; a refused file is not moved."""
        from nnunet_active.data.preprocessing import preprocess_case  # not above, as in _answered

        raw = RawDataset(self.raw_folder, self.pool_folders)
        described = used_dataset_json(self.store.dataset_folder, lambda: raw.dataset_json)
        ready: list[str] = []
        refused: dict[str, str] = {}
        for case in cases:
            if case not in raw.cases or raw.cases[case].label is None:
                continue
            try:
                if case in self.waiting:
                    answered = self._answered(raw.cases[case], raw)
                    if answered is None:
                        continue
                    self.slices = {**(self.slices or {}), case: answered}
                preprocess_case(raw.cases[case], self.store, described)
            except BadCase as error:
                refused[case] = str(error)
                continue
            ready.append(case)
        return ready, refused


def oracle_of(campaign: Campaign, store: CaseStore) -> Oracle:
    """The oracle of a campaign.

    Args:
        campaign: opened.
        store: its preprocessed cases.
    """
    if not campaign.asks_a_person:
        return RetrospectiveOracle(store)
    raw, pools = raw_root() / campaign.place.dataset, read_pool_folders(campaign.dataset_folder)
    return FolderOracle(store, raw, pools, campaign.waiting_slices(), campaign.known_slices())
