"""The permitted content of ``campaign.json``, and its content at the start of a campaign."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from nnunet_active import __version__
from nnunet_active.campaign.campaign_round import RoundEntry
from nnunet_active.campaign.fine_tuning import FineTuning
from nnunet_active.campaign.folds import assign
from nnunet_active.campaign.pseudo_label_settings import PseudoLabelSettings
from nnunet_active.campaign.settings import Settings
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.data.raw_dataset import check_case_identifier
from nnunet_active.util.errors import CampaignError
from nnunet_active.util.moments import now_in_utc, seconds_of
from nnunet_active.util.state_file import conforms, read_state

FORMAT = 1
_LEFT_OUT_WHILE_EMPTY = (
    "begun",
    "fold_of",
    "declined",
    "extra_budget",
    "left_to_training",
    "arrived",
    "unshown",
    "ingested",
    "handoff",
    "labelled_slices",
    "partly_labelled",
)


@dataclass(frozen=True)
class Roles:
    """The roles of the cases when a campaign starts.

    Attributes:
        initial: cases that are labelled and trained on from the start.
        val: held-out labelled cases; never queried.
        excluded: cases that the user's split file leaves out; never queried.
        split_origin: where the fold is defined, in words.
        other_folds: content of a fresh ``splits_final.json`` for the other folds.
        slices: labelled slices of partly labelled ``initial`` cases; their other slices may be asked for.
        declined: cases that nobody can label, as a campaign before this one was told, and why.
    """

    initial: Iterable[str] = ()
    val: Iterable[str] = ()
    excluded: Iterable[str] = ()
    split_origin: str = ""
    other_folds: list[dict[str, list[str]]] | None = None
    slices: Mapping[str, SliceRequest] = field(default_factory=dict)
    declined: Mapping[str, str] = field(default_factory=dict)


@dataclass
class LabelFacts:
    """Facts about a label that came back."""

    time: datetime | None = None
    file: str = ""
    digest: str = ""
    files: dict[str, list[int | str]] = field(default_factory=dict)
    contents: list[str] = field(default_factory=list)
    corrections: int = 0
    dice: dict[str, float | None] = field(default_factory=dict)
    volume_predicted_mm3: dict[str, float | None] = field(default_factory=dict)
    volume_label_mm3: dict[str, float | None] = field(default_factory=dict)
    changed_voxels: int | None = None


@dataclass
class CampaignState:
    """The stored state of a campaign.

    Attributes:
        fold, configuration, plans: see :class:`~nnunet_active.campaign.place.Place`.
        settings: how it queries and trains.
        initial, val, excluded, other_folds, split_origin: see :class:`Roles`.
        rounds: the queries so far.
        labelled: for each labelled case, the round that asked for it; 0 if nobody asked.
        arrived: for an unasked case, the epoch of the training that found its label; absent if it came before a training.
        made_by: ``init``, or ``select`` if the budget is not planned but grows with every round.
        format: format number of the file.
        version: version of the package that began the campaign.
        begun: when the campaign began (ISO format, UTC), unique among the campaigns of a fold; empty in those of earlier versions.
        fold_of: the fold of each labelled case in a cross-validation.
        declined: for each declined case, why nobody can label it.
        extra_budget: cases or slices that later selections added.
        left_to_training: the total budget at the time when the rest of it was left to the next training.
        unshown: number of a ``select`` round whose result was not shown yet.
        ingested: for each case, facts about the label that came back.
        handoff: the hand-off folder of each round.
        labelled_slices: the labelled slices of partly labelled cases.
        partly_labelled: the cases that were partly labelled from the start; they are in ``labelled``, too.
    """

    fold: str
    configuration: str
    plans: str
    settings: Settings
    initial: list[str]
    val: list[str]
    excluded: list[str]
    other_folds: list[dict[str, list[str]]] | None
    rounds: list[RoundEntry]
    labelled: dict[str, int]
    split_origin: str = ""
    made_by: Literal["init", "select"] = "init"
    format: int = FORMAT
    version: str = "not known"
    begun: str = ""
    fold_of: dict[str, int] = field(default_factory=dict)
    declined: dict[str, str] = field(default_factory=dict)
    extra_budget: int = 0
    left_to_training: int | None = None
    arrived: dict[str, int] = field(default_factory=dict)
    unshown: int = 0
    ingested: dict[str, dict[str, Any]] = field(default_factory=dict)
    handoff: dict[str, str] = field(default_factory=dict)
    labelled_slices: dict[str, SliceRequest] = field(default_factory=dict)
    partly_labelled: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.fold != "all" and not self.fold.isdecimal():
            raise CampaignError(f"fold: {self.fold!r} is neither a number nor 'all'")
        for name in (self.configuration, self.plans):
            check_case_identifier(name)  # they are used as file names, too
        named = (
            self.initial,
            self.val,
            self.excluded,
            self.labelled,
            self.fold_of,
            self.declined,
            self.ingested,
            self.arrived,
            self.labelled_slices,
            self.partly_labelled,
        )
        for case in {case for cases in named for case in cases}:
            check_case_identifier(case)
        if [one.number for one in self.rounds] != list(range(1, len(self.rounds) + 1)):
            raise CampaignError("rounds: they are not numbered 1, 2, ...")
        requested = Counter(case for one in self.rounds for case in one.requested)
        if not self.settings.in_slices and (twice := [case for case, times in requested.items() if times > 1]):
            raise CampaignError(f"rounds: {twice[0]} was asked for twice")
        if bad := [case for case, fold in self.fold_of.items() if not 0 <= fold < self.settings.folds]:
            raise CampaignError(f"fold_of: {bad[0]} is in fold {self.fold_of[bad[0]]} of {self.settings.folds}")
        if self.extra_budget < 0:
            raise CampaignError(f"extra_budget: {self.extra_budget} is negative")
        if bad := [number for number in self.handoff if not number.isdecimal()]:
            raise CampaignError(f"handoff: {bad[0]!r} is no round")
        for case, facts in self.ingested.items():
            if reason := conforms(facts, LabelFacts):
                raise CampaignError(f"ingested.{case}.{reason}")
        if self.begun:
            seconds_of(self.begun)  # raises if it is not a date
        FineTuning.of(self.settings.fine_tuning)
        PseudoLabelSettings.of(self.settings.pseudo_labels)

    @classmethod
    def at_the_start(cls, where: tuple[str, str, str], settings: Settings, roles: Roles, made_by: str) -> CampaignState:
        """The state of a new campaign; ``where`` is (fold, configuration, plans)."""
        initial, val, excluded = (sorted(cases) for cases in (roles.initial, roles.val, roles.excluded))
        state = cls(*where, settings, initial, val, excluded, roles.other_folds, [], {}, roles.split_origin, made_by)
        state.version, state.begun = __version__, now_in_utc("microseconds")
        state.initial = [case for case in initial if case not in roles.slices]
        state.declined = dict(roles.declined)
        state.labelled, state.labelled_slices = dict.fromkeys(roles.slices, 0), dict(roles.slices)
        state.partly_labelled = sorted(roles.slices)
        state.assign_folds()
        return state

    @classmethod
    def read(cls, file: Path) -> CampaignState:
        """From ``campaign.json``.

        Raises:
            CampaignError: the file is damaged or of a later version.
        """
        found = read_state(file, _Format, "a campaign file").format
        if found > FORMAT:
            raise CampaignError(f"{file} has format {found}, this version reads up to {FORMAT}; update nnunet_active.")
        return read_state(file, cls, "a campaign file")

    def to_json(self) -> dict[str, Any]:
        """The content as it is written."""
        content = {one.name: getattr(self, one.name) for one in fields(self)}
        content |= {"settings": self.settings.to_json(), "rounds": [one.to_json() for one in self.rounds]}
        content["labelled_slices"] = {case: one.to_json() for case, one in self.labelled_slices.items()}
        return {name: value for name, value in content.items() if value or name not in _LEFT_OUT_WHILE_EMPTY}

    def assign_folds(self) -> None:
        """In a cross-validation, give every new labelled case its fold, in the order in which the labels arrived."""
        if self.settings.folds > 1:
            arrivals, settings = [*self.initial, *self.labelled], self.settings
            self.fold_of = assign(self.fold_of, arrivals, settings.folds, self.fold, settings.patients.of)


@dataclass
class _Format:
    format: int
