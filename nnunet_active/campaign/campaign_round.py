"""One query of a campaign, and its files: ``scores.csv``, ``embeddings.npz``, ``selection.json``, ``worklist.csv``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnunet_active.util.atomic import atomic_folder

MAKERS = ("training", "select")


@dataclass(frozen=True)
class Round:
    """One query.

    Attributes:
        number: from 1.
        epoch: epoch before which it was made; 0 for those between trainings.
        requested: what it asked for, in order of preference.
        folder: where its files are.
        made_by: ``training`` or ``select``.
    """

    number: int
    epoch: int
    requested: tuple[str, ...]
    folder: Path
    made_by: str = "training"

    def selection(self) -> dict[str, Any]:
        """Content of ``selection.json``."""
        return json.loads((self.folder / "selection.json").read_text())

    def scores(self) -> pd.DataFrame:
        """``scores.csv``: one row per candidate, one column per component."""
        # only an empty cell is missing: pandas would also take a case named NA for a missing one
        how = {"keep_default_na": False, "na_values": [""], "float_precision": "round_trip"}
        return pd.read_csv(self.folder / "scores.csv", dtype={"case": str}, **how).set_index("case")

    def entry(self) -> dict[str, Any]:
        """As listed in ``campaign.json``."""
        return {
            "number": self.number,
            "epoch": self.epoch,
            "requested": list(self.requested),
            "made_by": self.made_by,
        }

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any], campaign_folder: Path) -> Round:
        """Read back; rounds from before there was ``nnunet_active select`` were all made by a training."""
        number = entry["number"]
        return cls(
            number,
            entry["epoch"],
            tuple(entry["requested"]),
            round_folder(campaign_folder, number),
            entry.get("made_by", MAKERS[0]),
        )


def round_folder(campaign_folder: Path, number: int) -> Path:
    """``round_001``, ``round_002``, ..."""
    return campaign_folder / f"round_{number:03d}"


def write_round(
    one: Round,
    scores: pd.DataFrame,
    utilities: pd.DataFrame,
    worklist: pd.DataFrame,
    arrays: Mapping[str, np.ndarray],
    details: Mapping[str, Any],
) -> None:
    """Write a round's folder in one step, whole or not at all.

    Args:
        one: the round.
        scores: one row per candidate (index: case id).
        utilities: one row per greedy step, one column per candidate.
        worklist: one row per pick, for the annotator.
        arrays: first axis aligned with ``scores.index``; saved as ``embeddings.npz``.
        details: further content of ``selection.json``.
    """
    with atomic_folder(one.folder) as temporary:
        scores.to_csv(temporary / "scores.csv", index_label="case")
        worklist.to_csv(temporary / "worklist.csv", index=False)
        np.savez_compressed(temporary / "embeddings.npz", cases=np.array(scores.index, dtype=str), **arrays)
        content = {**one.entry(), **details, "utilities": list(_steps(utilities))}
        (temporary / "selection.json").write_text(json.dumps(content, indent=2) + "\n")


def _steps(utilities: pd.DataFrame) -> Iterable[dict[str, float]]:
    for _, row in utilities.iterrows():
        yield {case: float(value) for case, value in row.items() if pd.notna(value)}
