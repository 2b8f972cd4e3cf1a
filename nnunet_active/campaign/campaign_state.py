"""The content of ``campaign.json``: what it may hold, and what it holds at the start."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from nnunet_active import __version__
from nnunet_active.campaign.campaign_round import RoundEntry
from nnunet_active.campaign.folds import assign
from nnunet_active.campaign.settings import Settings
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.util.errors import CampaignError
from nnunet_active.util.state_file import read_state

FORMAT = 1
_LEFT_OUT_WHILE_EMPTY = (
    "fold_of",
    "declined",
    "extra_budget",
    "left_to_training",
    "ingested",
    "handoff",
    "labelled_slices",
)


@dataclass(frozen=True)
class Roles:
    """Who is what when a campaign starts.

    Attributes:
        initial: cases that are labelled, and trained on, from the start.
        val: held-out labelled cases; never queried.
        excluded: cases that the user's split file leaves out; never queried.
        split_origin: who defined the fold, for people.
        other_folds: content of a fresh ``splits_final.json`` for the other folds.
    """

    initial: Iterable[str] = ()
    val: Iterable[str] = ()
    excluded: Iterable[str] = ()
    split_origin: str = ""
    other_folds: list[dict[str, list[str]]] | None = None


@dataclass
class CampaignState:
    """What is kept of a campaign.

    Attributes:
        fold, configuration, plans: see :class:`~nnunet_active.campaign.place.Place`.
        settings: how it queries and trains.
        initial, val, excluded, other_folds, split_origin: see :class:`Roles`.
        rounds: the queries so far.
        labelled: case -> round that asked for it; 0: nobody asked.
        made_by: ``init``, or ``select``: then the budget is not a plan, it grows with every round.
        format: of the file.
        version: of the package that began the campaign.
        fold_of: case -> its fold, with cross-validation.
        declined: case -> why nobody can label it.
        extra_budget: cases that later selections added.
        left_to_training: the budget when the rest of it was left to the next training.
        ingested: case -> what is known of the label that came back.
        handoff: round -> its hand-off folder.
        labelled_slices: of cases that are labelled in part, the slices that are.
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
    fold_of: dict[str, int] = field(default_factory=dict)
    declined: dict[str, str] = field(default_factory=dict)
    extra_budget: int = 0
    left_to_training: int | None = None
    ingested: dict[str, dict[str, Any]] = field(default_factory=dict)
    handoff: dict[str, str] = field(default_factory=dict)
    labelled_slices: dict[str, SliceRequest] = field(default_factory=dict)

    @classmethod
    def at_the_start(cls, where: tuple[str, str, str], settings: Settings, roles: Roles, made_by: str) -> CampaignState:
        """Of a campaign that begins; ``where``: fold, configuration, plans."""
        initial, val, excluded = (sorted(cases) for cases in (roles.initial, roles.val, roles.excluded))
        state = cls(*where, settings, initial, val, excluded, roles.other_folds, [], {}, roles.split_origin, made_by)
        state.version = __version__
        state.assign_folds()
        return state

    @classmethod
    def read(cls, file: Path) -> CampaignState:
        """From ``campaign.json``.

        Raises:
            CampaignError: it is damaged or of a later version.
        """
        found = read_state(file, _Format, "a campaign file").format
        if found > FORMAT:
            raise CampaignError(f"{file} has format {found}, this version reads up to {FORMAT}; update nnunet_active.")
        return read_state(file, cls, "a campaign file")

    def to_json(self) -> dict[str, Any]:
        """As written."""
        content = {one.name: getattr(self, one.name) for one in fields(self)}
        content |= {"settings": self.settings.to_json(), "rounds": [one.to_json() for one in self.rounds]}
        content["labelled_slices"] = {case: one.to_json() for case, one in self.labelled_slices.items()}
        return {name: value for name, value in content.items() if value or name not in _LEFT_OUT_WHILE_EMPTY}

    def assign_folds(self) -> None:
        """With cross-validation: every labelled case gets its fold, once, in the order in which the labels came."""
        if self.settings.folds > 1:
            self.fold_of = assign(self.fold_of, [*self.initial, *self.labelled], self.settings.folds, self.fold)


@dataclass
class _Format:
    format: int
