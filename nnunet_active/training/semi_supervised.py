"""Selective semi-supervised fine-tuning in rounds (ASSFT, arXiv 2509.10784; our reading): which pseudo-labels are used, and when.

A round begins with a query and ends at the next one. The first ``labelled_fraction`` of its epochs trains on labelled cases
alone. Then the network predicts every unlabelled case, keeps the reliable predictions as pseudo-labels
(:mod:`nnunet_active.pseudo.pseudo_labels`), and trains on both for the rest of the round. A partly labelled case with a reliable
prediction is used twice: unchanged, and once more among the pseudo-labelled cases, with predictions where nobody has labelled.
The next query discards all pseudo-labels; none is carried into another round.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset, nnUNetDatasetBlosc2

from nnunet_active.campaign.pseudo_label_settings import PseudoLabelSettings
from nnunet_active.data.dataset_json import ignore_value
from nnunet_active.data.partly_labelled import find_partly_labelled
from nnunet_active.nnunet.window import Window
from nnunet_active.pseudo.pseudo_labels import Predicting, ReliableSet, make_reliable_set, read_reliable_set
from nnunet_active.training.pseudo_dataset import MixedDataset
from nnunet_active.training.session import QuerySession


class PseudoLabelling:
    """The reliable pseudo-labels of the current round. All ranks call every method in the same order.

    Args:
        session: the campaign's side of the training.
        settings: which pseudo-labels to use, and their share of the training.
        epochs: length of the training.
    """

    def __init__(self, session: QuerySession, settings: PseudoLabelSettings, epochs: int) -> None:
        self.session, self.settings, self.epochs = session, settings, epochs
        self.current: ReliableSet | None = None

    @property
    def cases(self) -> tuple[str, ...]:
        """Cases with pseudo-labels, everywhere or in a part, that are trained on now."""
        return () if self.current is None else (*self.current.cases, *self.current.filled)

    @property
    def key(self) -> tuple:
        """Changes whenever the training set does."""
        return () if not self.cases else (self.current.folder, self.cases)

    def begins_at(self, epoch: int) -> int:
        """First epoch with pseudo-labels in the round of ``epoch``: ``start + ceil(labelled_fraction * length)``.

        The length counts up to the next planned query, even if that query then finds no case to ask for.
        """
        start, _ = self.session.round_epochs(epoch, self.epochs)
        start, end = self.session.round_epochs(start, self.epochs)
        return start + math.ceil(round(self.settings.labelled_fraction * (end - start), 9))

    def update(self, epoch: int, window: Callable[[], Window], before: Callable[[], None] = lambda: None) -> None:
        """Bring the reliable set in line with the epoch that is about to begin.

        Args:
            epoch: the epoch.
            window: makes a window on the network that predicts.
            before: called just before a set is made (saves a checkpoint that resumes exactly here).
        """
        begins = self.begins_at(epoch)
        folder = self._folder(epoch, begins)
        if epoch < begins:
            self.current = None
        elif epoch == begins:
            before()
            self.current = self._make(epoch, window(), folder)
        elif self.current is None or self.current.folder != folder:
            self.current = self.session.ranks.decide(lambda: read_reliable_set(folder))
            if self.current is None:  # a continued training whose set somebody has deleted
                self.session.log(
                    f"WARNING: {folder} is not there any more; the present network makes the reliable set again."
                )
                self.current = self._make(epoch, window(), folder)

    def mixed(self, labelled: nnUNetBaseDataset) -> nnUNetBaseDataset | MixedDataset:
        """The training set: the labelled cases, plus reliable pseudo-labelled cases if there are any."""
        if not self.cases:
            return labelled
        pseudo = nnUNetDatasetBlosc2(str(self.current.folder), list(self.cases))
        return MixedDataset(labelled, pseudo, self.settings.share, self.current.filled)

    def _folder(self, epoch: int, begins: int) -> Path:
        campaign = self.session.campaign
        start, _ = self.session.round_epochs(epoch, self.epochs)
        number = sum(one.epoch <= start for one in campaign.rounds)
        # every fold has its own network and so its own set; making a new set deletes the others in the same place
        place = f"pseudo_fold_{self.session.fold}" if self.session.only_follows else "pseudo"
        return campaign.folder / place / f"round_{number:03d}_epoch_{begins:04d}"

    def _make(self, epoch: int, window: Window, folder: Path) -> ReliableSet:
        session, began = self.session, time.perf_counter()
        labelled = session.labelled(epoch)
        partly = session.ranks.decide(
            lambda: find_partly_labelled(session.known_slices.folder, labelled, ignore_value(session.dataset_json))
        )
        made = make_reliable_set(
            session.campaign,
            Predicting(window, session.store, session.dataset_json, session.ranks, session.log),
            session.unlabelled(epoch),
            folder,
            self.settings,
            labelled,
            partly,
        )
        seconds = time.perf_counter() - began
        found = {"reliable": list(made.cases), "looked_at": len(made.table)}
        if partly.cases:
            found["filled"] = list(made.filled)
        session.event(epoch, "pseudo_labels", **found, seconds=seconds)
        return made
