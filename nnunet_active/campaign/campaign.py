"""A campaign: settings, rounds, and which case was labelled when. It lives beside the preprocessed data:

``nnUNet_preprocessed/DatasetXXX/active/fold_F/campaign.json`` and, for every query, ``round_001/`` with ``scores.csv`` (every
component of every score), ``embeddings.npz``, ``selection.json`` (the utilities at each greedy step) and ``worklist.csv``.

Rounds are appended and never rewritten. A round exists once its folder exists (it is renamed into place whole); ``campaign.json`` and
``splits_final.json`` are brought in line with the folders whenever a campaign is opened. So a kill at any moment leaves a state from
which the same command goes on to the same end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from nnunet_active.campaign.campaign_round import Round, RoundContent, RoundEntry, round_folder, write_round
from nnunet_active.campaign.campaign_state import CampaignState, Roles
from nnunet_active.campaign.place import Place
from nnunet_active.campaign.questions import CampaignQuestions
from nnunet_active.campaign.settings import Settings
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.campaign.splits import check_split_files, write_folds
from nnunet_active.data.campaign_files import campaign_file
from nnunet_active.util.atomic import sweep, write_json
from nnunet_active.util.errors import CampaignError, MissingInput
from nnunet_active.util.lock import hold


class Campaign(CampaignQuestions):
    """An opened campaign. Build one with :meth:`create` or :meth:`open`; write to it only while :meth:`lock` is held."""

    _seen: tuple[int, int, int] | None = None  # of the file, when it was read or written last

    @classmethod
    def create(
        cls, place: Place, settings: Settings, roles: Roles | None = None, made_by: str = "init", save: bool = True
    ) -> Campaign:
        """Start a campaign.

        Args:
            place: where.
            settings: how to query and train.
            roles: who is labelled, held out or left out from the start; None: nobody.
            made_by: ``init``, or ``select``: then the budget is not a plan, it grows with every round.
            save: whether to write it; False is for looking at what it would ask for.

        Raises:
            CampaignError: there is a campaign of this fold already.
        """
        file = campaign_file(place.dataset_folder, place.fold)
        if file.exists():
            raise CampaignError(
                f"{file} exists: fold {place.fold} has a campaign. Go on with it, or set it aside and start anew "
                f"with nnunet_active init ... --restart."
            )
        where = (place.fold, place.configuration, place.plans)
        campaign = cls(place.dataset_folder, CampaignState.at_the_start(where, settings, roles or Roles(), made_by))
        if save:
            campaign._save()
        return campaign

    @classmethod
    def open(cls, dataset_folder: Path, fold: str | int) -> Campaign:
        """Open the campaign of a fold for reading.

        Raises:
            MissingInput: there is none.
            CampaignError: its file is damaged or of a later version.
        """
        file = campaign_file(dataset_folder, fold)
        if not file.is_file():
            raise MissingInput(
                f"There is no campaign for fold {fold} ({file} was not found); start one with nnunet_active init."
            )
        seen = _signature(file)
        state = CampaignState.read(file)
        if state.fold != str(fold):
            raise CampaignError(f"{file} is that of fold {state.fold}; put it back where it belongs.")
        campaign = cls(dataset_folder, state)
        campaign._seen = seen
        return campaign

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the campaign for writing, and take over what a killed process left behind.

        Raises:
            CampaignError: another process holds it; the message says which.
        """
        with hold(self.folder):
            sweep(self.dataset_folder)
            self.refresh()
            check_split_files(self.dataset_folder)
            self.recover()
            yield

    def refresh(self) -> None:
        """Follow what another process wrote; the file is read again only if it is another one by now."""
        if self._seen is None or self._seen != _signature(self.folder / "campaign.json"):
            now = Campaign.open(self.dataset_folder, self.fold)
            self._check_same(now)
            self._state, self._seen = now._state, now._seen

    def recover(self) -> None:
        """Adopt round folders that a kill kept out of ``campaign.json``, and bring ``splits_final.json`` in line."""
        known = len(self._state.rounds)
        if len(self.adopt().rounds) > known:
            self._save()
        self.write_split()

    def adopt(self) -> Campaign:
        """Take over the rounds that a killed command wrote and could not enter any more; in memory only. Returns itself."""
        rounds = self._state.rounds
        while (folder := round_folder(self.folder, len(rounds) + 1)).joinpath("selection.json").is_file():
            entry = RoundEntry.read(folder / "selection.json")
            self._check_new(entry, folder)
            self._seen = None  # it differs from the file
            rounds.append(entry)
            self._note_unshown(entry)
        return self

    @property
    def _may_be_asked(self) -> tuple[str, ...]:
        # slices of a case may be asked for again, other ones
        return ("in the pool", "labelled", "waiting") if self.settings.in_slices else ("in the pool",)

    def _check_new(self, entry: RoundEntry, folder: Path) -> None:
        """A round that is not in ``campaign.json`` was written by a killed command, or by hand."""
        asked = {*entry.requested}
        if entry.number != len(self._state.rounds) + 1:
            reason = f"it is that of round {entry.number}"
        elif taken := sorted(case for case in asked if self.status_of(case) not in self._may_be_asked):
            reason = f"{taken[0]} cannot be asked for, it is {self.status_of(taken[0])}"
        else:
            Round.of(entry, self.folder).scores()
            return
        raise CampaignError(
            f"{folder / 'selection.json'} is not the record of a new round ({reason}); move {folder} away."
        )

    def _note_unshown(self, made: RoundEntry) -> None:
        if made.made_by == "select":
            self._state.unshown = made.number

    def note_shown(self) -> None:
        """What the last round asks for has been told to whoever called ``nnunet_active select``."""
        if self._state.unshown:
            self._state.unshown = 0
            self._save()

    # --- what changes it ---------------------------------------------------------------------------------------------------------

    def append_round(self, content: RoundContent, epoch: int = 0, made_by: str = "training") -> Round:
        """Record a query, whole or not at all.

        Args:
            content: what it asks for, and its tables.
            epoch: epoch before which it was made.
            made_by: ``training`` or ``select``.
        """
        self._check_in_place()
        number = len(self._state.rounds) + 1
        entry = RoundEntry(number, epoch, tuple(content.requested), made_by, dict(content.slices))
        one = Round.of(entry, self.folder)
        write_round(one, content)
        self._state.rounds.append(entry)
        self._note_unshown(entry)
        self._save()
        return one

    def mark_labelled(
        self, cases: Iterable[str], epoch: int = 0, slices: Mapping[str, SliceRequest] | None = None
    ) -> list[str]:
        """Cases whose label is there from now on; ``splits_final.json`` follows.

        Args:
            cases: asked for or not.
            epoch: of the training that found those that nobody asked for; 0: between trainings.
            slices: of cases that are labelled in part, the slices that are; None: all that were asked for.

        Returns:
            Those that are new, or of which there are new slices.
        """
        number = {case: one.number for one in reversed(self.rounds) for case in one.requested}
        cases = list(cases)
        known = self._state.labelled_slices
        slices = {
            case: one
            for case, one in (self.waiting_slices() if slices is None else slices).items()
            if case in cases and one.joined(known.get(case)) != known.get(case)
        }
        fresh = [case for case in cases if case not in self._state.labelled and case not in self.initial]
        new = list(dict.fromkeys([*fresh, *slices]))
        if new:
            self._state.labelled.update({case: number.get(case, 0) for case in fresh})
            self._state.arrived.update({case: epoch for case in fresh if epoch and case not in number})
            known.update({case: one.joined(known.get(case)) for case, one in slices.items()})
            self._state.assign_folds()
            self._save()
        self.write_split()
        return new

    def begin_training(self) -> None:
        """A training begins anew: it knows every label that nobody asked for from its first epoch on."""
        if self._state.arrived:
            self._state.arrived.clear()
            self._save()

    def extend(self, more: int) -> None:
        """Raise the budget by a number of cases, or slices."""
        self._state.extra_budget += more
        self._save()

    def leave_to_training(self) -> None:
        """What is left of the budget is for the next training to ask for (only a hint for whoever plans the next step)."""
        self._state.left_to_training = self.budget
        self._save()

    def decline(self, cases: Iterable[str], reason: str = "") -> list[str]:
        """Nobody can label these cases: they wait no longer, are never asked for again, and cost nothing of the budget.

        Returns:
            Those that were waiting; others are left as they are.
        """
        waiting = set(self.waiting())
        declined = [case for case in cases if case in waiting]
        if declined:
            self._state.declined |= dict.fromkeys(declined, reason)
            self._save()
        return declined

    def exclude(self, cases: Iterable[str]) -> None:
        """Cases that are never to be asked for."""
        excluded = sorted({*self.excluded, *cases})
        if excluded != self._state.excluded:
            self._state.excluded = excluded
            self._save()

    def record_label(self, case: str, facts: Mapping[str, Any]) -> None:
        """Keep what is known of a label that came back (JSON types): time, file, digest, Dice and volumes per class."""
        self._state.ingested[case] = dict(facts)
        self._save()

    def record_handoff(self, number: int, folder: Path) -> None:
        """Keep where the hand-off folder of a round is."""
        self._state.handoff[str(number)] = str(folder)
        self._save()

    def set_folds(self, folds: int) -> None:
        """Divide the labelled cases among folds of cross-validation from now on (see ``cross_validation.switch_on``)."""
        self._state.settings = replace(self.settings, folds=folds)
        self._state.assign_folds()
        self._save()
        self.write_split()

    def write_split(self) -> None:
        """Bring this fold of ``splits_final.json`` in line with the labelled cases (idempotent)."""
        if self.labelled():
            write_folds(self.dataset_folder, self.split_entries(), self._state.other_folds)

    def _check_in_place(self) -> None:
        """Nothing is written over another campaign, or where this one was moved away."""
        signature = _signature(self.folder / "campaign.json")
        if signature != self._seen:  # also where it is gone, which opening it says
            self._check_same(Campaign.open(self.dataset_folder, self.fold))

    def _check_same(self, now: Campaign) -> None:
        """Whoever was busy while a new campaign took the place of his own has to hear of it."""
        if now.begun != self.begun:
            raise CampaignError(
                f"{self.folder} holds another campaign by now: the one that this command began with was set aside. Nothing was "
                f"written into the new one; run the command again."
            )

    def _save(self) -> None:
        self._check_in_place()
        file = self.folder / "campaign.json"
        write_json(file, self._state.to_json())
        self._seen = _signature(file)


def _signature(file: Path) -> tuple[int, int, int] | None:
    """Changes whenever the file is replaced: each whole write makes a new one."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
