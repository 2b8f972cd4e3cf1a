"""Lets a trainer store its legs in the cache, and skip those that are there already."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_active.benchmark.legs import Leg, LegCache
from nnunet_active.nnunet.safe_checkpoint import weights_digest
from nnunet_active.scoring.encoder import unwrap
from nnunet_active.training.comparison_table import FILE
from nnunet_active.util.atomic import copy_file


class LegReused(BaseException):
    """The next leg is in the cache, and the training continues from its end.

    Not an ``Exception``, so that no handler that turns errors into sentences catches it.
    """

    def __init__(self, leg: Leg) -> None:
        super().__init__(leg.key)
        self.leg = leg


class RecordedTraining:
    """Mixed in before an active trainer's class: same training, same checkpoints, plus a record of every leg.

    It skips what nnU-Net writes for people and for its own resuming (plots; best, latest and final checkpoint): a run resumes from
    the legs, and the last one holds what the final checkpoint would.
    """

    legs: LegCache
    measure_pseudo_labels: Callable[[dict[str, torch.Tensor]], pd.DataFrame]
    seconds_query: float = 0.0
    seconds_trained: float = 0.0
    seconds_judging: float = 0.0
    _leg_began: float = 0.0
    _judged: list[dict[str, Any]] | None = None

    def initialize(self) -> None:
        """The trainer's own, without the plot after every epoch."""
        super().initialize()
        self.logger.plot_progress_png = lambda output_folder: None

    def save_checkpoint(self, filename: str) -> None:
        """Does nothing: see :meth:`on_epoch_end`."""

    def _query(self) -> None:
        start = time.perf_counter()
        super()._query()
        self.seconds_query += time.perf_counter() - start
        if self.legs.end_of(self.current_epoch) is not None:
            if (leg := self.legs.find(self._history())) is not None:
                self._leave()
                raise LegReused(leg)
            self._leg_began = time.perf_counter()

    def on_epoch_start(self) -> None:
        """Judge all candidates of a new reliable set by the withheld labels; the training does not see the result."""
        super().on_epoch_start()
        if self.pseudo is None or self.current_epoch != self.pseudo.begins_at(self.current_epoch):
            return
        start = time.perf_counter()
        with self.adaptation.predicting():
            measured = self.measure_pseudo_labels(unwrap(self.network).state_dict())
        self._judged = judged_pseudo_labels(self.pseudo.current.table, measured)
        seconds = time.perf_counter() - start
        self.seconds_judging += seconds
        self._leg_began += seconds  # judging is no part of the training

    def on_epoch_end(self) -> None:
        """Store the leg that ends here."""
        super().on_epoch_end()
        if self.current_epoch not in self.legs.ends():
            return
        history = [cases for _, cases in self._labelled_so_far(self.current_epoch - 1)]
        self._choose_interpolation()  # the trainer does this later, before its query or its end, with the same result
        seconds = time.perf_counter() - self._leg_began
        self.seconds_trained += seconds
        facts = {
            "epoch": self.current_epoch,
            "seconds": seconds,
            "weights": weights_digest(unwrap(self.network).state_dict()),
            **({} if self._judged is None else {"pseudo_labels": self._judged}),
            **({} if self.choice is None else {"interpolation": self.choice.latest}),
        }
        self._judged = None
        self.legs.add(history, self._save_whole, facts)
        self._leg_began = time.perf_counter()

    def _save_whole(self, file: Path) -> None:
        self.current_epoch -= 1  # the stock code stores current_epoch + 1, because it saves before it counts up
        try:
            super().save_checkpoint(str(file))
        finally:
            self.current_epoch += 1
        if (comparison := Path(self.output_folder) / FILE).is_file():
            copy_file(comparison, file.parent / FILE)

    def go_on_from(self, leg: Leg) -> None:
        """Continue as with ``--c`` from the end of a leg, whichever run trained it: with its network and its measurements so far."""
        if (leg.folder / FILE).is_file():
            copy_file(leg.folder / FILE, measured := Path(self.output_folder) / FILE)
            os.utime(measured)  # it counts as this run's own
        self.load_checkpoint(str(leg.checkpoint))

    def _check_campaign(self) -> None:
        """A leg may be another run's, of a campaign of its own."""

    def _history(self) -> list[list[str]]:
        return [cases for _, cases in self._labelled_so_far(self.current_epoch)]

    def _labelled_so_far(self, epoch: int) -> list[tuple[int, list[str]]]:
        return labelled_by_leg(self.session.campaign, self.legs, epoch)


def labelled_by_leg(campaign: Any, legs: LegCache, epoch: int) -> list[tuple[int, list[str]]]:
    """For every leg begun by ``epoch``: its start, and what was labelled then, one text for each case."""
    starts = [0, *legs.ends()[:-1]]
    return [(start, campaign.labels_by_name(start)) for start in starts if start <= epoch]


def judged_pseudo_labels(table: pd.DataFrame, measured: pd.DataFrame) -> list[dict[str, Any]]:
    """The table of a reliable set with each candidate's true Dice, as JSON rows.

    Args:
        table: of :class:`~nnunet_active.pseudo.pseudo_labels.ReliableSet`.
        measured: rows by case and class of the network that predicted them, with ``dice``. A case's Dice is the mean over its classes
            that are in the reference or predicted.
    """
    true = measured.groupby("case")["dice"].mean()
    columns = ["confidence", "distance", "foreground_voxels", "reliable"]
    rows = table[columns].assign(dice=true.reindex(table.index)).rename_axis("case").reset_index()
    return json.loads(rows.to_json(orient="records", double_precision=15))


def recorded(trainer: type[nnUNetTrainer]) -> type[nnUNetTrainer]:
    """The recorded version of an active trainer; it has the same name, so its folders and checkpoints do too."""
    return type(trainer.__name__, (RecordedTraining, trainer), {"__module__": __name__})
