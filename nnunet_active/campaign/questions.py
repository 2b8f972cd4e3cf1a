"""What a campaign answers: who is labelled, who waits, who may be asked for, when the next query is due. Nothing is written here."""

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
    """The questions; see :class:`~nnunet_active.campaign.campaign.Campaign`."""

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
        """Where its files are."""
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
        """Whether labels come from people, through ``labelsTr``; otherwise they are there and withheld until they are asked for."""
        return not self.settings.labels_are_withheld

    @property
    def is_open_ended(self) -> bool:
        """Whether ``nnunet_active select`` began it: its budget is not a plan, it grows with every round."""
        return self._state.made_by == "select"

    @property
    def was_asked_by_select(self) -> bool:
        """Whether ``nnunet_active select`` made a round of it, whoever began it."""
        return any(one.made_by == "select" for one in self._state.rounds)

    @property
    def begun_with(self) -> str:
        """Version of the package that began it."""
        return self._state.version

    @property
    def begun(self) -> str:
        """When it began (ISO format, UTC); empty where an earlier version began it."""
        return self._state.begun

    @property
    def split_origin(self) -> str:
        """Who defined its fold, for people; empty: nobody."""
        return self._state.split_origin

    def to_json(self) -> dict[str, Any]:
        """All that is kept of it, as in ``campaign.json``."""
        return self._state.to_json()

    # --- cases -------------------------------------------------------------------------------------------------------------------

    @property
    def rounds(self) -> list[Round]:
        """All rounds so far, the oldest first."""
        return [Round.of(entry, self.folder) for entry in self._state.rounds]

    @property
    def initial(self) -> tuple[str, ...]:
        """Cases labelled from the start."""
        return tuple(self._state.initial)

    @property
    def val(self) -> tuple[str, ...]:
        """Labelled cases that the user's split holds out; never asked for."""
        return tuple(self._state.val)

    @property
    def excluded(self) -> tuple[str, ...]:
        """Cases that are never asked for and never trained on."""
        return tuple(self._state.excluded)

    @property
    def declined(self) -> dict[str, str]:
        """Cases that were asked for and that nobody can label, with the reason."""
        return dict(self._state.declined)

    def status_of(self, case: str) -> CaseStatus:
        """What a case is in this campaign; one that it does not know is ``in the pool``."""
        if case in self._state.val:
            return "held out"
        if case in self._state.labelled or case in self._state.initial:
            return "labelled"
        if case in self._state.declined:
            return "declined"
        if case in self.requested():
            return "waiting"
        return "excluded" if case in self._state.excluded else "in the pool"

    def requested(self) -> list[str]:
        """All cases ever asked for, in order, each once."""
        return list(dict.fromkeys(case for one in self._state.rounds for case in one.requested))

    def labelled(self, epoch: int | None = None) -> list[str]:
        """Cases to train on, sorted. With ``epoch``: only what was asked for, or came unasked, before or at it, so that
        a resumed run repeats itself."""
        # a case may be asked for several slices in several rounds: the first one counts, unless some were labelled before
        asked = {case: one.epoch for one in reversed(self._state.rounds) for case in one.requested}
        since = {case: (asked if number else self._state.arrived) for case, number in self._state.labelled.items()}
        revealed = [case for case, known in since.items() if epoch is None or known.get(case, 0) <= epoch]
        return sorted({*self.initial, *revealed})

    def rounds_answered(self) -> int:
        """Rounds that have brought a label."""
        labelled = set(self._state.labelled)
        return sum(not labelled.isdisjoint(one.requested) for one in self._state.rounds)

    def revealed(self) -> list[str]:
        """Cases whose label came after the start, in the order in which the labels came."""
        return list(self._state.labelled)

    def waiting(self) -> list[str]:
        """Cases that were asked for and have no label yet, or not in all their slices, in order of preference; not declined ones."""
        if self.asks_for_slices:
            slices = self.waiting_slices()
            return [case for case in self.requested() if case in slices]
        settled = {*self._state.labelled, *self._state.declined}
        return [case for case in self.requested() if case not in settled]

    def halting(self) -> list[str]:
        """Waiting cases without whose labels no training goes on.

        Of a round by ``nnunet_active select`` a training takes the labels that are there, once one of them is, and something to
        train on; all others halt it, and with the setting ``wait`` every one.
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
        """Of cases that have a label, those that nobody asked for and that the campaign does not use yet, sorted."""
        return [case for case in sorted(set(with_label)) if self.status_of(case) == "in the pool"]

    def pool(self, cases: Iterable[str]) -> list[str]:
        """Of ``cases``, those that may still be queried, sorted: never one of ``val``, never one asked for before.

        Where slices are asked for, a case may be asked for others once those asked for before are labelled.
        """
        taken = {*self.val, *self.initial, *self.excluded}
        if self.asks_for_slices:
            unasked = set(self._state.labelled) - set(self._state.labelled_slices)  # whole labels
            taken |= {*self.declined, *self.waiting_slices(), *unasked}
        else:
            taken |= {*self._state.labelled, *self.requested()}
        return sorted(set(cases) - taken)

    @property
    def ingested(self) -> dict[str, dict[str, Any]]:
        """What is known of the labels that came back: see :meth:`~nnunet_active.campaign.campaign.Campaign.record_label`."""
        return dict(self._state.ingested)

    def handoff_folder(self, number: int) -> Path | None:
        """Where the hand-off folder of a round is, if one was written; in the raw data set it goes where that goes."""
        folder = self._state.handoff.get(str(number))
        return None if folder is None else self.place.in_the_raw_data(Path(folder))

    def predictions_folder(self, number: int) -> Path:
        """Archive of what the model predicted for the cases of a round, before anybody edited it (original geometry)."""
        return round_folder(self.folder / "predictions", number)

    # --- folds -------------------------------------------------------------------------------------------------------------------

    @property
    def fold_of(self) -> dict[str, int]:
        """With cross-validation: the fold of every labelled case."""
        return dict(self._state.fold_of)

    def sides(self, fold: str, epoch: int | None = None) -> tuple[list[str], list[str]]:
        """With cross-validation: labelled cases that train, and that validate, in a fold; ``epoch``: see :meth:`labelled`."""
        return sides(self.labelled(epoch), self._state.fold_of, fold)

    @property
    def folds_are_complete(self) -> bool:
        """Whether this is a cross-validation, and every one of its folds has a labelled case."""
        folds = self.settings.folds
        return folds > 1 and is_complete(self.labelled(), self._state.fold_of, folds)

    def split_entries(self) -> dict[int, tuple[list[str], list[str]]]:
        """The folds of ``splits_final.json`` that this campaign answers for, as they are now: index -> (train, val)."""
        return split_entries(self.labelled(), self._state.fold_of, self.settings.folds, self.fold, self.val)

    def held_out(self) -> list[str]:
        """Labelled cases that its own fold never trains on, sorted."""
        return self.split_entries()[int(self.fold)][1] if self.fold != "all" else sorted(self.val)

    # --- the budget --------------------------------------------------------------------------------------------------------------

    @property
    def budget(self) -> int:
        """Cases, or slices, to ask for in all: that of the settings and what later selections added."""
        return self.settings.budget + self._state.extra_budget

    @property
    def exhausted(self) -> bool:
        """Whether the budget is spent; a case that was declined costs nothing."""
        return self.size_of_next_query() == 0

    def budget_left(self) -> int:
        """Cases, or slices, that may still be asked for; declined ones cost nothing."""
        return max(0, self.budget - self.spent())

    def size_of_next_query(self) -> int:
        """Cases, or slices, that the next query asks for: the query size, or what is left of the budget."""
        left = self.budget_left()
        return left if self.settings.one_off else min(self.settings.query_size, left)

    def query_due(self, epoch: int) -> bool:
        """Whether the next query belongs before ``epoch`` of a training.

        After rounds between trainings the first one is due after a stride: the network has then learnt from their labels. A round
        whose cases were all declined does not count, so that a replacement is asked for at once.
        """
        # later multiples of the stride, too: where the pool was empty at first, new scans may have come in since
        return not self.exhausted and epoch >= self.epoch_of_next_query() and epoch % self.settings.stride == 0

    def epoch_of_next_query(self) -> int:
        """The first epoch of a training before which its next query is due, if anything is left to ask for."""
        rounds = self._state.rounds
        made = sum(one.made_by == "training" and not set(one.requested) <= set(self.declined) for one in rounds)
        return self.settings.epoch_of_query(made + self.was_asked_by_select + 1)

    def training_will_ask(self) -> bool:
        """Whether a training comes to its next query; where its length is the trainer's own, that is taken for granted."""
        epochs = self.settings.epochs
        return epochs is None or self.epoch_of_next_query() < epochs

    @property
    def unshown(self) -> int:
        """Number of a round by ``nnunet_active select`` that nobody has seen, since that command was killed; 0: none."""
        return self._state.unshown

    @property
    def is_left_to_training(self) -> bool:
        """Whether the next training is to ask, and has not done so yet."""
        return self._state.left_to_training == self.budget and not self.exhausted and self.training_will_ask()
