"""One query of a campaign, and its files: ``scores.csv``, ``embeddings.npz``, ``selection.json``, ``worklist.csv``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.util.atomic import atomic_folder
from nnunet_active.util.state_file import read_state


@dataclass(frozen=True)
class RoundEntry:
    """A query as listed in ``campaign.json``, and at the head of its ``selection.json``.

    Attributes:
        number: from 1.
        epoch: epoch before which it was made; 0 for those between trainings.
        requested: what it asked for, in order of preference.
        made_by: ``training`` or ``select``; rounds from before there was ``nnunet_active select`` were all made by a training.
        slices: case -> slices that it asked for; empty: it asked for whole cases.
    """

    number: int
    epoch: int
    requested: tuple[str, ...]
    made_by: Literal["training", "select"] = "training"
    slices: dict[str, SliceRequest] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path) -> RoundEntry:
        """From ``selection.json``.

        Raises:
            CampaignError: it is damaged.
        """
        return read_state(file, cls, "the record of a round")

    def to_json(self) -> dict[str, Any]:
        """As written."""
        return {
            "number": self.number,
            "epoch": self.epoch,
            "requested": list(self.requested),
            "made_by": self.made_by,
            **({"slices": {case: one.to_json() for case, one in self.slices.items()}} if self.slices else {}),
        }


@dataclass(frozen=True)
class Round(RoundEntry):
    """One query, with ``folder``: where its files are."""

    folder: Path = Path()

    @classmethod
    def of(cls, entry: RoundEntry, campaign_folder: Path) -> Round:
        """The round of an entry."""
        folder = round_folder(campaign_folder, entry.number)
        return cls(entry.number, entry.epoch, entry.requested, entry.made_by, entry.slices, folder)

    def selection(self) -> dict[str, Any]:
        """Content of ``selection.json``."""
        return json.loads((self.folder / "selection.json").read_text())

    def scores(self) -> pd.DataFrame:
        """``scores.csv``: one row per candidate, one column per component."""
        # only an empty cell is missing: pandas would also take a case named NA for a missing one
        how = {"keep_default_na": False, "na_values": [""], "float_precision": "round_trip"}
        return pd.read_csv(self.folder / "scores.csv", dtype={"case": str}, **how).set_index("case")


@dataclass(frozen=True)
class RoundContent:
    """What a query chose, and the tables that say why.

    Attributes:
        requested: the picks in order.
        scores: one row per candidate (index: case id).
        utilities: one row per greedy step, one column per candidate.
        worklist: one row per pick, for the annotator.
        arrays: first axis aligned with ``scores.index``; saved as ``embeddings.npz``.
        details: further content of ``selection.json``.
        slices: of every pick, where slices are asked for.
    """

    requested: Sequence[str]
    scores: pd.DataFrame
    utilities: pd.DataFrame
    worklist: pd.DataFrame
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    slices: Mapping[str, SliceRequest] = field(default_factory=dict)


def round_folder(campaign_folder: Path, number: int) -> Path:
    """``round_001``, ``round_002``, ..."""
    return campaign_folder / f"round_{number:03d}"


def write_round(one: Round, content: RoundContent) -> None:
    """Write a round's folder in one step, whole or not at all."""
    with atomic_folder(one.folder) as temporary:
        content.scores.to_csv(temporary / "scores.csv", index_label="case")
        content.worklist.to_csv(temporary / "worklist.csv", index=False)
        cases = np.array(content.scores.index, dtype=str)
        np.savez_compressed(temporary / "embeddings.npz", cases=cases, **content.arrays)
        selection = {**one.to_json(), **content.details, "utilities": list(_steps(content.utilities))}
        (temporary / "selection.json").write_text(json.dumps(selection, indent=2) + "\n")


def _steps(utilities: pd.DataFrame) -> Iterable[dict[str, float]]:
    for _, row in utilities.iterrows():
        yield {case: float(value) for case, value in row.items() if pd.notna(value)}
