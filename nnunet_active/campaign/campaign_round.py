"""One query of a campaign, and its files: ``scores.csv``, ``embeddings.npz``, ``selection.json``, ``worklist.csv``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.data.raw_dataset import check_case_identifier
from nnunet_active.util.atomic import atomic_folder
from nnunet_active.util.errors import CampaignError
from nnunet_active.util.state_file import read_checked_json, read_state
from nnunet_active.util.tables import read_csv, write_csv

if TYPE_CHECKING:
    import pandas as pd


PROBABILITY = "component_probability"
"""The column of ``scores.csv`` with the probability of being drawn."""


def was_drawn(selection: Mapping[str, Any], scores: pd.DataFrame) -> bool:
    """Whether the strategy draws. The utility is then random, and its rank means nothing.

    Args:
        selection: content of ``selection.json``.
        scores: content of ``scores.csv``.
    """
    # not every draw records probabilities; in rounds of earlier versions, that column is the only sign of a draw
    return selection.get("drawn", PROBABILITY in scores)


@dataclass(frozen=True)
class RoundEntry:
    """A query as listed in ``campaign.json`` and at the top of its ``selection.json``.

    Attributes:
        number: counts from 1.
        epoch: epoch before which it was made; 0 for a query between trainings.
        requested: the requested cases, in order of preference.
        made_by: ``training`` or ``select``; rounds from before ``nnunet_active select`` existed are all from a training.
        slices: the requested slices by case; empty if whole cases were requested.
    """

    number: int
    epoch: int
    requested: tuple[str, ...]
    made_by: Literal["training", "select"] = "training"
    slices: dict[str, SliceRequest] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for case in self.requested:
            check_case_identifier(case)
        if self.number < 1 or self.epoch < 0:
            raise CampaignError(f"round {self.number} at epoch {self.epoch}")
        if len(set(self.requested)) < len(self.requested):
            raise CampaignError(f"round {self.number} asks for a case twice")

    @classmethod
    def read(cls, file: Path) -> RoundEntry:
        """From ``selection.json``.

        Raises:
            CampaignError: the file is damaged.
        """
        return read_state(file, cls, "the record of a round")

    def to_json(self) -> dict[str, Any]:
        """The entry as it is written."""
        return {
            "number": self.number,
            "epoch": self.epoch,
            "requested": list(self.requested),
            "made_by": self.made_by,
            **({"slices": {case: one.to_json() for case, one in self.slices.items()}} if self.slices else {}),
        }


@dataclass(frozen=True)
class Round(RoundEntry):
    """One query, with the ``folder`` of its files."""

    folder: Path = Path()

    @classmethod
    def of(cls, entry: RoundEntry, campaign_folder: Path) -> Round:
        """The round of an entry."""
        folder = round_folder(campaign_folder, entry.number)
        return cls(entry.number, entry.epoch, entry.requested, entry.made_by, entry.slices, folder)

    def selection(self) -> dict[str, Any]:
        """Content of ``selection.json``.

        Raises:
            CampaignError: the file is missing or damaged.
        """
        file = self.folder / "selection.json"
        if not file.is_file():
            raise CampaignError(
                f"{file} was not found, but the campaign has a round {self.number}; restore it from a backup."
            )
        content = read_checked_json(file, _Selection, "the record of a round")
        return {"candidates": len(self.requested), "dominant_modality": {}, "utilities": [], **content}

    def scores(self) -> pd.DataFrame:
        """``scores.csv``: one row per candidate, one column per component.

        Raises:
            CampaignError: the file is missing or damaged.
        """
        file = self.folder / "scores.csv"
        try:
            table = read_csv(file, dtype={"case": str}).set_index("case")
        except OSError as error:
            reason = error.strerror or str(error)
        except (ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
        else:
            texts = [name for name in table if table[name].dtype.kind not in "biuf"]
            if not texts and "utility" in table:  # every candidate has one
                texts = [f"utility of {case}" for case in table.index[table["utility"].isna()]]
            absent = [case for case in self.requested if case not in table.index]
            absent += [name for name in ("utility",) if name not in table]
            if not texts and not absent and table.index.is_unique and not table.index.hasnans:
                return table
            reason = (
                f"{', '.join(map(str, texts or absent))}: {'no numbers' if texts else 'no row or column of its own'}"
            )
        raise CampaignError(
            f"{file} is not the table of scores of round {self.number} ({reason}); restore it from a backup."
        )


@dataclass(frozen=True)
class RoundContent:
    """The picks of a query, and the tables that explain them.

    Attributes:
        requested: the picks in order.
        scores: one row per candidate (index: case id).
        utilities: one row per greedy step, one column per candidate.
        worklist: one row per pick, for the annotator.
        arrays: first axis aligned with ``scores.index``; saved as ``embeddings.npz``.
        details: further content of ``selection.json``.
        slices: the requested slices of every pick, if slices are asked for.
    """

    requested: Sequence[str]
    scores: pd.DataFrame
    utilities: pd.DataFrame
    worklist: pd.DataFrame
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    slices: Mapping[str, SliceRequest] = field(default_factory=dict)


@dataclass
class _Modality:
    channel: int
    name: str
    dice: list[float] = field(default_factory=list)
    decided: bool = True


@dataclass(frozen=True)
class _Selection(RoundEntry):
    """The permitted content of ``selection.json``."""

    candidates: int = 0
    utilities: list[dict[str, float]] = field(default_factory=list)
    dominant_modality: dict[str, _Modality] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    set_aside: dict[str, str] = field(default_factory=dict)
    strategy: str | None = None
    strategy_options: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    drawn: bool = False
    seconds: float | None = None
    excluded: list[str] = field(default_factory=list)
    must_include: list[str] = field(default_factory=list)
    model: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dominant_modality and (
            lacking := [case for case in self.requested if case not in self.dominant_modality]
        ):
            raise CampaignError(f"dominant_modality: {lacking[0]} is missing")


def round_folder(campaign_folder: Path, number: int) -> Path:
    """``round_001``, ``round_002``, ..."""
    return campaign_folder / f"round_{number:03d}"


def write_round(one: Round, content: RoundContent) -> None:
    """Write a round's folder atomically."""
    with atomic_folder(one.folder) as temporary:
        write_csv(temporary / "scores.csv", content.scores, index_label="case")
        write_csv(temporary / "worklist.csv", content.worklist)
        cases = np.array(content.scores.index, dtype=str)
        np.savez_compressed(temporary / "embeddings.npz", cases=cases, **content.arrays)
        selection = {**one.to_json(), **content.details, "utilities": list(_steps(content.utilities))}
        (temporary / "selection.json").write_text(json.dumps(selection, indent=2) + "\n")


def _steps(utilities: pd.DataFrame) -> Iterable[dict[str, float]]:
    for _, row in utilities.iterrows():
        yield {case: float(value) for case, value in row.items() if not math.isnan(value)}
