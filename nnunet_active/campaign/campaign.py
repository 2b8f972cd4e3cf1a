"""A campaign: its settings, its rounds, and which case was labelled when. Its files lie beside the preprocessed data:

``nnUNet_preprocessed/DatasetXXX/active/fold_F/campaign.json`` and, for every query, ``round_001/`` with ``scores.csv`` (every
component of every score), ``embeddings.npz``, ``selection.json`` (the utilities at each greedy step) and ``worklist.csv``.

Rounds are appended and never rewritten. A round exists once its folder exists (a complete folder is renamed into place). Locking a
campaign brings ``campaign.json`` and ``splits_final.json`` in line with the folders. So after a kill at any moment, the same command
comes to the same result.
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

    _seen: tuple[int, int, int] | None = None  # signature of the file when last read or written

    @classmethod
    def create(
        cls, place: Place, settings: Settings, roles: Roles | None = None, made_by: str = "init", save: bool = True
    ) -> Campaign:
        """Start a campaign.

        Args:
            place: data set, configuration, plans and fold.
            settings: how to query and train.
            roles: cases that are labelled, held out or left out from the start; None for none.
            made_by: ``init``, or ``select`` if the budget is not planned but grows with every round.
            save: whether to write it; False to see what it would ask for.

        Raises:
            CampaignError: this fold already has a campaign.
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
            MissingInput: the fold has no campaign.
            CampaignError: the campaign's file is damaged or of a later version.
        """
        file = campaign_file(dataset_folder, fold)
        if not file.is_file():
            raise MissingInput(
                f"There is no campaign for fold {fold} ({file} was not found); nnunet_active next -d {dataset_folder.name} says how to "
                f"start one."
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
        """Lock the campaign for writing, and recover what a killed process left behind.

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
        """Take over what another process wrote. The file is read again only if it was replaced."""
        if self._seen is None or self._seen != _signature(self.folder / "campaign.json"):
            now = Campaign.open(self.dataset_folder, self.fold)
            self._check_same(now)
            self._state, self._seen = now._state, now._seen

    def recover(self) -> None:
        """Adopt round folders that ``campaign.json`` lacks because of a kill, and update ``splits_final.json``."""
        known = len(self._state.rounds)
        if len(self.adopt().rounds) > known:
            self._save()
        self.write_split()

    def adopt(self) -> Campaign:
        """Adopt rounds that a killed command wrote but did not enter in ``campaign.json``; in memory only. Returns itself."""
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
        # further slices of a case may be asked for
        return ("in the pool", "labelled", "waiting") if self.settings.in_slices else ("in the pool",)

    def _check_new(self, entry: RoundEntry, folder: Path) -> None:
        """Check a round folder that is not in ``campaign.json``: a killed command wrote it, or somebody by hand."""
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
        """Record that the user of ``nnunet_active select`` has seen what the last round asks for."""
        if self._state.unshown:
            self._state.unshown = 0
            self._save()

    # --- what changes it ---------------------------------------------------------------------------------------------------------

    def append_round(self, content: RoundContent, epoch: int = 0, made_by: str = "training") -> Round:
        """Record a query atomically.

        Args:
            content: the requested cases, and the query's tables.
            epoch: epoch before which the query was made.
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
        """Count cases as labelled from now on, and update ``splits_final.json``.

        Args:
            cases: cases that have a label, asked for or not.
            epoch: epoch of the training that found labels nobody asked for; 0 between trainings.
            slices: labelled slices of the partly labelled cases; None for all that were asked for.

        Returns:
            Cases that are new, or that have new slices.
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
        """Start a training from epoch 0: it knows all unasked labels from its first epoch on."""
        if self._state.arrived:
            self._state.arrived.clear()
            self._save()

    def extend(self, more: int) -> None:
        """Raise the budget by a number of cases or slices."""
        self._state.extra_budget += more
        self._save()

    def leave_to_training(self) -> None:
        """Leave the rest of the budget to the next training. This is only a hint for planning the next step."""
        self._state.left_to_training = self.budget
        self._save()

    def decline(self, cases: Iterable[str], reason: str = "") -> list[str]:
        """Decline cases that nobody can label: they no longer wait, are never asked for again, and cost no budget.

        A case that was declined before gets the new reason, if there is one.

        Returns:
            The cases that were waiting or got a new reason; others are not changed.
        """
        known = {*self.waiting(), *(self.declined if reason else ())}
        declined = [case for case in cases if case in known]
        if declined:
            self._state.declined |= dict.fromkeys(declined, reason)
            self._save()
        return declined

    def exclude(self, cases: Iterable[str]) -> None:
        """Never ask for these cases."""
        excluded = sorted({*self.excluded, *cases})
        if excluded != self._state.excluded:
            self._state.excluded = excluded
            self._save()

    def record_label(self, case: str, facts: Mapping[str, Any]) -> None:
        """Record facts about a label that came back (JSON types): time, file, digest, Dice and volumes per class."""
        self._state.ingested[case] = dict(facts)
        self._save()

    def record_handoff(self, number: int, folder: Path) -> None:
        """Record where the hand-off folder of a round is."""
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
        """Refuse to write over another campaign, or where this one was moved away."""
        signature = _signature(self.folder / "campaign.json")
        if signature != self._seen:  # if the file is gone, opening it raises
            self._check_same(Campaign.open(self.dataset_folder, self.fold))

    def _check_same(self, now: Campaign) -> None:
        """Tell a command that a new campaign has replaced its own in the meantime."""
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
    """A value that changes whenever the file is replaced; every write makes a new file."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
