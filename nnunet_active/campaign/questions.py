"""Read-only queries on a campaign: which cases are labelled, wait or may be asked for, and when the next query is due."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from nnunet_active.campaign.campaign_round import Round, round_folder
from nnunet_active.campaign.campaign_state import CampaignState
from nnunet_active.campaign.folds import is_complete, sides, split_entries
from nnunet_active.campaign.place import Place
from nnunet_active.campaign.settings import Settings
from nnunet_active.campaign.slice_questions import SliceQuestions

CaseStatus = Literal["held out", "labelled", "declined", "waiting", "excluded", "in the pool"]


class CampaignQuestions(SliceQuestions):
    """The read-only part of :class:`~nnunet_active.campaign.campaign.Campaign`."""

    def __init__(self, dataset_folder: Path, state: CampaignState) -> None:
        self.place = Place(dataset_folder, state.configuration, state.plans, state.fold)
        self._state = state

    # --- what it is --------------------------------------------------------------------------------------------------------------

    @property
    def dataset_folder(self) -> Path:
        """``nnUNet_preprocessed/DatasetXXX``."""
        return self.place.dataset_folder

    @property
    def folder(self) -> Path:
        """The folder of its files."""
        return self.place.campaign_folder

    @property
    def fold(self) -> str:
        """Number as text, or ``all``."""
        return self.place.fold

    @property
    def configuration(self) -> str:
        """The nnU-Net configuration."""
        return self.place.configuration

    @property
    def plans(self) -> str:
        """Plans identifier."""
        return self.place.plans

    @property
    def settings(self) -> Settings:
        """How it queries and trains."""
        return self._state.settings

    @property
    def asks_a_person(self) -> bool:
        """Whether people make the labels, through ``labelsTr``; otherwise all labels exist and are withheld until asked for."""
        return not self.settings.labels_are_withheld

    @property
    def is_open_ended(self) -> bool:
        """Whether ``nnunet_active select`` began it, so that its budget is not planned but grows with every round."""
        return self._state.made_by == "select"

    @property
    def was_asked_by_select(self) -> bool:
        """Whether ``nnunet_active select`` made any of its rounds."""
        return any(one.made_by == "select" for one in self._state.rounds)

    @property
    def begun_with(self) -> str:
        """Version of the package that began it."""
        return self._state.version

    @property
    def begun(self) -> str:
        """When it began (ISO format, UTC); empty if an earlier version began it."""
        return self._state.begun

    @property
    def split_origin(self) -> str:
        """Where its fold is defined, in words; empty if nowhere."""
        return self._state.split_origin

    def to_json(self) -> dict[str, Any]:
        """The whole state, as in ``campaign.json``."""
        return self._state.to_json()

    # --- cases -------------------------------------------------------------------------------------------------------------------

    @property
    def rounds(self) -> list[Round]:
        """All rounds so far, oldest first."""
        return [Round.of(entry, self.folder) for entry in self._state.rounds]

    @property
    def initial(self) -> tuple[str, ...]:
        """Cases labelled as a whole from the start."""
        return tuple(self._state.initial)

    @property
    def labelled_from_start(self) -> int:
        """Number of cases that had a label, or some labelled slices, when the campaign began."""
        return len(self._state.initial) + len(self._state.partly_labelled)

    @property
    def val(self) -> tuple[str, ...]:
        """Labelled cases that the user's split holds out; never asked for."""
        return tuple(self._state.val)

    @property
    def excluded(self) -> tuple[str, ...]:
        """Cases that are never asked for and never trained on; see also :meth:`never_used`."""
        return tuple(self._state.excluded)

    @property
    def declined(self) -> dict[str, str]:
        """Cases that were asked for but that nobody can label, with the reason."""
        return dict(self._state.declined)

    def status_of(self, case: str) -> CaseStatus:
        """The status of a case; a case that the campaign does not know is ``in the pool``."""
        if case in self._state.val:
            return "held out"
        if case in self._state.labelled or case in self._state.initial:
            return "labelled"
        if case in self._state.declined:
            return "declined"
        if case in self.requested():
            return "waiting"
        return "excluded" if self.never_used([case]) else "in the pool"

    def never_used(self, cases: Iterable[str]) -> set[str]:
        """Those of ``cases`` that are never asked for and never trained on: the excluded ones, those that were declined before the
        campaign began, and other scans of held-out patients, also those that came later."""
        others = set(cases) - set(self.val)
        declined_before = set(self.declined) - set(self.requested())
        return others & {*self.excluded, *declined_before} | self.settings.patients.companions(self.val, others)

    def requested(self) -> list[str]:
        """All cases ever asked for, in order, each once."""
        return list(dict.fromkeys(case for one in self._state.rounds for case in one.requested))

    def labelled(self, epoch: int | None = None) -> list[str]:
        """Cases to train on, sorted. With ``epoch``: only cases that were asked for, or came unasked, before or at that epoch,
        so that a resumed run repeats itself."""
        # several rounds may ask for slices of a case: the first one counts, unless some slices were labelled before
        asked = {case: one.epoch for one in reversed(self._state.rounds) for case in one.requested}
        since = {case: (asked if number else self._state.arrived) for case, number in self._state.labelled.items()}
        revealed = [case for case, known in since.items() if epoch is None or known.get(case, 0) <= epoch]
        return sorted({*self.initial, *revealed})

    def rounds_answered(self) -> int:
        """Number of rounds that have brought a label."""
        labelled = set(self._state.labelled)
        return sum(not labelled.isdisjoint(one.requested) for one in self._state.rounds)

    def revealed(self) -> list[str]:
        """Cases whose label arrived after the start, in order of arrival."""
        return list(self._state.labelled)

    def waiting(self) -> list[str]:
        """Requested cases with no label, or with missing slices, in order of preference; without declined cases."""
        if self.asks_for_slices:
            slices = self.waiting_slices()
            return [case for case in self.requested() if case in slices]
        settled = {*self._state.labelled, *self._state.declined}
        return [case for case in self.requested() if case not in settled]

    def halting(self) -> list[str]:
        """Waiting cases whose missing labels halt a training.

        For a round by ``nnunet_active select``, a training goes on once one of its labels has arrived and there is something to
        train on. Other rounds halt it until all their labels are there. With the setting ``wait``, every waiting case halts it.
        """
        waiting = self.waiting()
        if self.settings.wait or not self.labelled():
            return waiting
        asked = {case: one for one in self._state.rounds for case in one.requested}
        unanswered = {*waiting, *self._state.declined}
        return [
            case
            for case in waiting
            if asked[case].made_by == "training" or unanswered.issuperset(asked[case].requested)
        ]

    def unasked(self, with_label: Iterable[str]) -> list[str]:
        """Those of the labelled cases that nobody asked for and that the campaign does not use yet, sorted."""
        return [case for case in sorted(set(with_label)) if self.status_of(case) == "in the pool"]

    def pool(self, cases: Iterable[str]) -> list[str]:
        """Those of ``cases`` that may still be queried, sorted: never one of ``val``, never one asked for before.

        In a campaign of slices, a case may be asked for again once its requested slices are labelled.
        """
        cases = set(cases)
        taken = {*self.val, *self.initial, *self.never_used(cases), *self.declined}
        if self.asks_for_slices:
            unasked = set(self._state.labelled) - set(self._state.labelled_slices)  # whole labels
            taken |= {*self.waiting_slices(), *unasked}
        else:
            taken |= {*self._state.labelled, *self.requested()}
        return sorted(cases - taken)

    @property
    def ingested(self) -> dict[str, dict[str, Any]]:
        """Facts about the labels that came back; see :meth:`~nnunet_active.campaign.campaign.Campaign.record_label`."""
        return dict(self._state.ingested)

    def handoff_folder(self, number: int) -> Path | None:
        """The hand-off folder of a round, or None. If it lies in the raw data set, it moves along with that."""
        folder = self._state.handoff.get(str(number))
        return None if folder is None else self.place.in_the_raw_data(Path(folder))

    def predictions_folder(self, number: int) -> Path:
        """Archive of the model's predictions for the cases of a round, before anybody edited them (original geometry)."""
        return round_folder(self.folder / "predictions", number)

    # --- folds -------------------------------------------------------------------------------------------------------------------

    @property
    def fold_of(self) -> dict[str, int]:
        """The fold of every labelled case in a cross-validation."""
        return dict(self._state.fold_of)

    def sides(self, fold: str, epoch: int | None = None) -> tuple[list[str], list[str]]:
        """Training and validation cases of a fold in a cross-validation; for ``epoch``, see :meth:`labelled`."""
        return sides(self.labelled(epoch), self._state.fold_of, fold)

    @property
    def folds_are_complete(self) -> bool:
        """Whether this is a cross-validation, and every one of its folds has a labelled case."""
        folds = self.settings.folds
        return folds > 1 and is_complete(self.labelled(), self._state.fold_of, folds)

    def split_entries(self) -> dict[int, tuple[list[str], list[str]]]:
        """The folds of ``splits_final.json`` that this campaign defines now: index -> (train, val)."""
        return split_entries(self.labelled(), self._state.fold_of, self.settings.folds, self.fold, self.val)

    def held_out(self) -> list[str]:
        """Labelled cases that its own fold never trains on, sorted."""
        return self.split_entries()[int(self.fold)][1] if self.fold != "all" else sorted(self.val)

    # --- the budget --------------------------------------------------------------------------------------------------------------

    @property
    def budget(self) -> int:
        """Total number of cases or slices to ask for: the settings' budget plus what later selections added."""
        return self.settings.budget + self._state.extra_budget

    @property
    def exhausted(self) -> bool:
        """Whether the budget is spent; a declined case costs nothing."""
        return self.size_of_next_query() == 0

    def budget_left(self) -> int:
        """Number of cases or slices that may still be asked for; declined ones cost nothing."""
        return max(0, self.budget - self.spent())

    def size_of_next_query(self) -> int:
        """Number of cases or slices that the next query asks for: the query size, or what is left of the budget."""
        left = self.budget_left()
        return left if self.settings.one_off else min(self.settings.query_size, left)

    def query_due(self, epoch: int) -> bool:
        """Whether the next query is due before ``epoch`` of a training.

        After rounds between trainings, the first query is due after one stride, when the network has learnt from their labels. A
        round whose cases were all declined does not count, so that a replacement is asked for at once.
        """
        # at later multiples of the stride, too: if the pool was empty before, new scans may have come in since
        return not self.exhausted and epoch >= self.epoch_of_next_query() and epoch % self.settings.stride == 0

    def epoch_of_next_query(self) -> int:
        """First epoch before which a training's next query is due, if anything is left to ask for."""
        rounds = self._state.rounds
        made = sum(one.made_by == "training" and not set(one.requested) <= set(self.declined) for one in rounds)
        return self.settings.epoch_of_query(made + self.was_asked_by_select + 1)

    def training_will_ask(self) -> bool:
        """Whether a training reaches its next query; assumed if the trainer decides the number of epochs."""
        epochs = self.settings.epochs
        return epochs is None or self.epoch_of_next_query() < epochs

    @property
    def unshown(self) -> int:
        """Number of a round that nobody has seen because ``nnunet_active select`` was killed; 0 if there is none."""
        return self._state.unshown

    @property
    def is_left_to_training(self) -> bool:
        """Whether the query was left to the next training and is still open."""
        return self._state.left_to_training == self.budget and not self.exhausted and self.training_will_ask()
