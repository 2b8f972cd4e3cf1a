"""Copies of the training cases that hold only the known slices, for simulations that withhold labels slice by slice.

The copies lie beside the campaign, in ``known_slices/fold_F/<data_identifier>``. Held-out cases are copied whole, since nnU-Net's
loaders need to know where each case is labelled. If people label, or if whole cases are asked for, the training reads the stock folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.commands import Commands
from nnunet_active.data.cases import CaseStore
from nnunet_active.data.raw_dataset import RawDataset, read_pool_folders
from nnunet_active.data.revealed_labels import reveal
from nnunet_active.nnunet.nnunet_paths import raw_folder
from nnunet_active.util.errors import MissingInput


class KnownSlices:
    """The cases of one training.

    Args:
        campaign: opened.
        store: its preprocessed cases.
        dataset_json: the target's, with the ignore label.
        fold: the fold in training.
    """

    def __init__(self, campaign: Campaign, store: CaseStore, dataset_json: dict, fold: str) -> None:
        self.campaign, self.store, self.dataset_json = campaign, store, dataset_json
        self._prepared: tuple = ()
        self._place = campaign.folder / "known_slices" / f"fold_{fold}" / store.folder.name

    @property
    def are_withheld(self) -> bool:
        """Whether the stock folder holds labels that the training may not see."""
        return self.campaign.asks_for_slices and not self.campaign.asks_a_person

    @property
    def folder(self) -> Path:
        """Where the training's cases are."""
        return self._place if self.are_withheld else self.store.folder

    def prepare(self, labelled: Sequence[str], held_out: Sequence[str], known: dict[str, SliceRequest]) -> None:
        """Make the folder hold exactly the known labels of these cases. Cases that are up to date are not written again.

        Args:
            labelled: cases to train on.
            held_out: held-out cases, copied whole.
            known: labelled slices of the partly labelled cases.

        Raises:
            MissingInput: the raw data set, or a case of it, no longer exists.
            BadCase: a label cannot be cut down to its known slices.
        """
        now = (sorted(labelled), sorted(held_out), dict(known))
        if not self.campaign.asks_for_slices or now == self._prepared:
            return
        if not self.are_withheld:
            self._check([*labelled, *held_out])
            self._prepared = now
            return
        name = self.campaign.place.dataset
        raw = RawDataset(raw_folder(name), read_pool_folders(self.campaign.dataset_folder))
        for case in [*labelled, *held_out]:
            if case not in raw.cases or raw.cases[case].label is None:
                raise MissingInput(f"Case {case} or its label is not in {raw.folder} any more; put it back.")
            of_case = known.get(case) if case not in held_out else None
            axis, slices = ("z", None) if of_case is None else (of_case.axis, of_case.slices)
            reveal(raw.cases[case], axis, slices, self.store, self.dataset_json, self._place)
        self._prepared = now

    def _check(self, cases: Sequence[str]) -> None:
        """Refuse cases that were preprocessed before there was an ignore label: nnU-Net's loaders fail on them with a KeyError."""
        old = [case for case in cases if not any(map(_is_annotated, self.store.properties(case)["class_locations"]))]
        if old:
            raise MissingInput(
                f"{', '.join(old)} were preprocessed before dataset.json had an ignore label; run "
                f"{Commands(self.campaign.place.dataset, self.campaign.configuration, self.campaign.plans).preprocess()} again."
            )


def _is_annotated(key: object) -> bool:
    """Whether this key of ``class_locations`` lists all annotated voxels (a tuple of labels with -1, what nnU-Net crops away)."""
    return isinstance(key, tuple) and -1 in key
