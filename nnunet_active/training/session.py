"""The campaign during a training: when to query, which labels have arrived, and which cases are trained on.

All ranks of a distributed training call every method in the same order; rank 0 decides and writes.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nnunet_active.campaign.cross_validation import check_can_be_trained
from nnunet_active.campaign.running import TrainingNote
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.campaign.slices_at_start import slices_at_start
from nnunet_active.campaign.splits import edited_by_hand
from nnunet_active.nnunet.inference import SlidingWindow
from nnunet_active.query.selector import run_query
from nnunet_active.returned.found_labels import note_labels, settle_found
from nnunet_active.training.known_slices import KnownSlices
from nnunet_active.util.atomic import sweep
from nnunet_active.util.errors import EmptyPool
from nnunet_active.util.log import Log
from nnunet_active.util.ranks import Ranks
from nnunet_active.workspace import Workspace

WAIT_SECONDS = 30


class QuerySession:
    """The campaign's side of a training.

    Args:
        workspace: the data set, with its campaign and the fold in training. In a cross-validation, any fold but the campaign's own
            uses the labels as they are at its start: it never queries, writes nothing, and does not lock the campaign.
        log: shows messages to people.
        log_file: JSON lines, one per event; nnU-Net's own logger accepts only its own keys.
    """

    def __init__(self, workspace: Workspace, log: Log, log_file: Path) -> None:
        self.workspace = workspace
        self.campaign, self.store, self.dataset_json = workspace.campaign, workspace.store, workspace.dataset_json
        self.fold = workspace.fold
        self.only_follows = self.fold != self.campaign.fold
        self.known_slices = KnownSlices(self.campaign, self.store, self.dataset_json, self.fold)
        self.log = log
        self.log_file = log_file
        self.ranks = Ranks()
        self._guards = ExitStack()
        self._note: TrainingNote | None = None
        self._said: set[str] = set()  # at the last look for labels

    def begin(self, epoch: int = 0) -> None:
        """Lock the campaign until :meth:`end`, and clean up what a killed process left behind.

        Args:
            epoch: the first epoch of this run; 0 unless a training is continued.

        Raises:
            CampaignError: another process holds the campaign, or the fold has no case to validate on yet.
        """
        if self.only_follows:
            self._follow()
            check_can_be_trained(self.campaign, self.fold)
            return
        folder, entries = self.campaign.dataset_folder, self.campaign.split_entries()
        if edited := self.ranks.decide(lambda: edited_by_hand(folder, entries)):  # locking puts our split back
            self.log(f"WARNING: {edited}")
        self.ranks.decide(lambda: self._guards.enter_context(self.campaign.lock()))
        self.ranks.decide(lambda: sweep(self.log_file.parent))
        if epoch == 0:
            self.ranks.decide(self.campaign.begin_training)
        self._follow()

    def note_epoch(self, trainer: str, epoch: int, epochs: int) -> None:
        """Tell other processes that this training is running, and how far it has come, until :meth:`end`."""

        def note() -> None:
            if self._note is None:
                self._note = TrainingNote(self.campaign.folder, trainer, self.fold, epochs)
                self._guards.callback(self._note.end)
            self._note.at(epoch)

        self.ranks.decide(note)

    def end(self) -> None:
        """Release the campaign."""
        self._guards.close()
        self._note = None

    def _follow(self) -> None:
        """Read what rank 0 wrote before it can write more, so that the campaign is the same on every rank."""
        self.ranks.together(self.campaign.refresh)

    def seed(self, epoch: int, *more: int) -> None:
        """Seed an epoch from the campaign's seed and the epoch alone, so that a resumed run repeats itself.

        ``more`` numbers give another state, for networks that are trained alongside. This covers everything drawn in the main process;
        augmentation workers (nnUNet_n_proc_DA > 0) have their own generators.
        """
        entropy = [self.campaign.settings.seed, epoch, self.ranks.rank, *more]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - nnU-Net and batchgenerators draw from the legacy generator
        torch.manual_seed(seed)

    def labelled(self, epoch: int | None = None) -> list[str]:
        """Cases that the fold is trained on, sorted. With ``epoch``: only from rounds made before or at that epoch."""
        return self._sides(epoch)[0]

    def held_out(self, epoch: int | None = None) -> list[str]:
        """Labelled cases that this fold never trains on: those the campaign holds out, and the fold's own in a cross-validation."""
        return [*self.campaign.val, *self._sides(epoch)[1]]

    def trained_on(self, epoch: int) -> tuple[int, int]:
        """Numbers of rounds and of labelled cases that the epochs before ``epoch`` (1 or more) were trained on."""
        return sum(one.epoch < epoch for one in self.campaign.rounds), len(self.labelled(epoch - 1))

    def labels(self, epoch: int) -> list[str]:
        """The epoch's training labels, one text per case: its name, and its slices if it is partly labelled."""
        names = self.campaign.label_names(None if self.only_follows else epoch)
        return [names[case] for case in self.labelled(epoch)]

    def prepare_known_slices(self, epoch: int) -> None:
        """If labels are withheld slice by slice, prepare the folder that holds what the training may know at ``epoch``, no more."""
        known = self.campaign.known_slices(None if self.only_follows else epoch)
        labelled, held_out = self.labelled(epoch), self.held_out(epoch)
        self.ranks.decide(lambda: self.known_slices.prepare(labelled, held_out, known))

    def is_query_due(self, epoch: int) -> bool:
        """Whether :meth:`query_if_due` would query."""
        return not self.only_follows and self.campaign.query_due(epoch)

    def _sides(self, epoch: int | None) -> tuple[list[str], list[str]]:
        return self.campaign.sides(self.fold, None if self.only_follows else epoch)

    def unlabelled(self, epoch: int) -> list[str]:
        """Stored cases that were not labelled, requested or held out up to ``epoch``, whatever came later (sorted), and may be used."""
        campaign = self.campaign
        rounds = [one for one in campaign.rounds if self.only_follows or one.epoch <= epoch]
        asked = {case for one in rounds for case in one.requested}
        cases = self.store.identifiers()
        taken = {*self.labelled(epoch), *asked, *self.held_out(), *campaign.val, *campaign.never_used(cases)}
        return self.workspace.not_withdrawn(case for case in cases if case not in taken)

    def window(
        self, network: nn.Module, device: torch.device, mirror_axes: tuple[int, ...] | None = None
    ) -> SlidingWindow:
        """The network as a function of one preprocessed image."""
        plans, configuration = self.workspace.plans, self.campaign.configuration
        return SlidingWindow(network, plans, configuration, self.dataset_json, device, mirror_axes)

    def begins_round(self, epoch: int) -> bool:
        """Whether a query of this training was made before ``epoch`` (not at 0, where every training begins)."""
        if self.only_follows:
            return False
        return epoch > 0 and any(one.epoch == epoch and one.made_by == "training" for one in self.campaign.rounds)

    def round_epochs(self, epoch: int, epochs: int) -> tuple[int, int]:
        """First epoch and end of the round of ``epoch``: from one query of the training to the next.

        The last round ends with the training. So does a round after which a query found no case to ask for.

        Args:
            epoch: 0, 1, ...
            epochs: length of the training.
        """
        if self.only_follows:
            return 0, epochs
        campaign = self.campaign
        made = sorted({0, *(one.epoch for one in campaign.rounds if one.made_by == "training")})
        start = max(one for one in made if one <= epoch)
        later = [one for one in made if one > epoch]
        if not later and not campaign.exhausted:
            later = [one for one in [start + campaign.settings.stride] if epoch < one]
        return start, min([*later, epochs])

    def query_if_due(
        self,
        epoch: int,
        network: nn.Module,
        device: torch.device,
        before: Callable[[], None] = lambda: None,
        mirror_axes: tuple[int, ...] | None = None,
    ) -> None:
        """Make the query that belongs before ``epoch``, unless it has been made already.

        Args:
            epoch: the epoch that is about to begin.
            network: the current network.
            device: where to predict.
            before: called just before a query is made (saves a checkpoint that resumes exactly here).
            mirror_axes: axes that may be mirrored if a strategy needs an ensemble.
        """
        campaign = self.campaign
        if not self.is_query_due(epoch):
            return
        before()
        candidates = self.workspace.candidates()
        number = len(campaign.rounds) + 1
        planned = campaign.settings.queries  # rounds made by select come on top
        self.log(
            f"Query {number}{f' of {planned}' if number <= planned else ''}: {len(candidates)} cases to choose from"
        )
        if said := campaign.settings.patients.about_unnamed(candidates):
            self.log(f"WARNING: {said}")
        start = time.perf_counter()
        try:
            window = self.window(network, device, mirror_axes)
            made = run_query(self.workspace, window, candidates, epoch, self.ranks, self.log)
        except EmptyPool as end:
            self.log(f"{end} Training goes on with what is labelled.")
            return
        self.event(
            epoch, "query", round=made.number, requested=list(made.requested), seconds=time.perf_counter() - start
        )

    def take_up_labels(self, epoch: int) -> list[str]:
        """Ask the oracle for the missing labels; with the setting ``wait``, keep asking until they arrive.

        Returns:
            Cases that a person must label before the training can go on, in order of preference; empty if none.
        """
        if self.only_follows:
            return []
        if self.campaign.asks_a_person:
            self._welcome_unasked(epoch)
        told = False
        while waiting := self.campaign.waiting():
            refused = self.ranks.decide(lambda cases=tuple(waiting): self._reveal(epoch, cases))
            self._follow()
            waiting, halting = self.campaign.waiting(), self.campaign.halting()
            sentences = [f"WARNING: {sentence}" for sentence in refused.values()]
            if waiting and not halting:
                sentences.append(f"Not labelled yet, so that this training goes without: {', '.join(waiting)}.")
            for sentence in sentences:
                if sentence not in self._said:  # do not repeat it every 30 seconds or before every epoch
                    self.log(sentence)
            self._said = set(sentences)
            if not halting or not self.campaign.settings.wait:
                return halting
            if not told:
                self.log(
                    f"Waiting for the labels of {', '.join(waiting)} in labelsTr; put them there, or stop with Ctrl-C."
                )
                told = True
            time.sleep(WAIT_SECONDS)
        return []

    def unasked(self) -> list[str]:
        """Labels that somebody made and preprocessed unasked, and that the campaign does not know yet."""
        return self.campaign.unasked(self.store.labelled_identifiers()) if self.campaign.asks_a_person else []

    def _welcome_unasked(self, epoch: int) -> None:
        """Train also on labels that somebody made and preprocessed unasked; they cost an hour each, too."""
        if unasked := self.ranks.decide(self.unasked):
            self.ranks.decide(lambda: self._mark(unasked, epoch, self._slices_of(unasked)))
            self._follow()
            self.log(f"Labelled without being asked, and trained on from now on: {', '.join(unasked)}.")
            self.event(epoch, "labelled", cases=unasked)

    def _slices_of(self, cases: list[str]) -> dict[str, SliceRequest] | None:
        """The labelled slices of partly labelled cases; their other slices may still be asked for."""
        campaign = self.campaign
        return slices_at_start(campaign.place, cases, campaign.settings.axis) if campaign.asks_for_slices else None

    def _mark(self, cases: list[str], epoch: int = 0, slices: dict[str, SliceRequest] | None = None) -> list[str]:
        if self.campaign.asks_a_person:
            note_labels(self.campaign, cases, self.log, slices)
        return self.campaign.mark_labelled(cases, epoch, slices)

    def _reveal(self, epoch: int, cases: tuple[str, ...]) -> dict[str, str]:
        oracle = self.workspace.oracle
        joined, unsettled = settle_found(self.campaign, cases, self.log)
        ready, refused = oracle.reveal([case for case in cases if case not in unsettled])
        slices = oracle.slices and {case: one.joined(joined.get(case)) for case, one in oracle.slices.items()}
        new = self._mark(ready, slices=slices)
        if new:
            campaign = self.campaign
            slices = f", {campaign.labels_known()} slices" if campaign.asks_for_slices else ""
            self.log(f"Labelled: {', '.join(new)}. Training set: {len(campaign.labelled())} cases{slices}.")
            self.event(epoch, "labelled", cases=new)
        return {**unsettled, **refused}

    def event(self, epoch: int, event: str, **content: Any) -> None:
        """Write an event to the log file."""
        if self.ranks.rank == 0:
            with self.log_file.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"time": time.time(), "epoch": epoch, "event": event, **content}) + "\n")
