"""Reads ``comparison.csv`` of a training: is the adapted network better than the source network it started from?

This module measures nothing. It imports pandas only where it needs it, since the import is slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnunet_active.util.atomic import write_json
from nnunet_active.util.moments import seconds_of
from nnunet_active.util.state_file import read_remade_json
from nnunet_active.util.tables import read_csv

if TYPE_CHECKING:
    import pandas as pd

FILE = "comparison.csv"
OWNER = "comparison.json"
"""The file beside it that says which campaign its rows belong to."""
_COARSE = 2.0  # seconds by which a file's time stamp may be off
COLUMNS = ["kind", "round", "epoch", "labelled", "model", "network", "case", "reference", "label", "dice"]
HELD_OUT, PREQUENTIAL, CROSS_FIT = "held_out", "prequential", "cross_fit"
SOURCE, ADAPTED = "source", "adapted"
CONFIDENCE = 0.95
NOTICEABLE = 0.01
"""A larger loss of Dice in a single label is worth a warning (our choice)."""
KEPT_SOURCE = "The labels so far showed no gain, so the model predicts exactly like the source model (alpha 0)."
"""The answer in place of a comparison where a recipe that chooses alpha has chosen 0."""


@dataclass(frozen=True)
class Gain:
    """By how much the adapted network is better or worse than the source network.

    Attributes:
        kind: ``held_out`` or ``prequential``.
        cases: number of cases that both networks were measured on.
        source, adapted: mean over cases of the mean Dice over labels.
        worse: number of cases on which the adapted network is worse.
        bound: the mean difference (adapted - source) is above this with 95 % confidence (one-sided paired t); NaN below 3 cases.
        labels: labels whose mean Dice has fallen by more than `NOTICEABLE`, with the difference; empty if there is one label only.
    """

    kind: str
    cases: int
    source: float
    adapted: float
    worse: int
    bound: float
    labels: dict[str, float]

    @property
    def is_worse(self) -> bool:
        """Whether the adapted network is worse on these cases, on average."""
        return self.cases > 0 and self.adapted < self.source

    def lines(self) -> list[str]:
        """The result for people: the first line is the comparison, further lines are warnings."""
        if not self.cases:
            return [
                "WARNING: this network was not compared with the source network: no labelled case is held out, and no label came in "
                "that an adapted network had not seen."
            ]
        one = self.cases == 1
        before = "case before it was trained on" if one else "cases before they were trained on"
        what = ("held-out case" if one else "held-out cases") if self.kind == HELD_OUT else before
        lines = [
            f"Source against adapted network on {self.cases} {what}: mean Dice {self.source:.4f} -> {self.adapted:.4f} "
            f"({self.adapted - self.source:+.4f}; worse in {self.worse} of {self.cases})."
        ]
        if self.is_worse:
            gentler = "held_out" if self.kind == HELD_OUT else "interpolated"
            lines.append(
                "WARNING: on these cases the adapted network is worse than the source network that it started from. Keep the source "
                f"network, or fine-tune more gently (nnunet_active init --recipe {gentler} --restart)."
            )
        for label, loss in self.labels.items():
            lines.append(f"WARNING: the adapted network is worse in {label}: mean Dice {loss:+.4f}.")
        if not self.is_worse and not self.bound >= 0:
            few = (
                f"only {self.cases} case{'' if one else 's'}"
                if self.cases < 3
                else f"95 % bound of the mean difference {self.bound:+.4f}"
            )
            lines.append(
                f"WARNING: the adapted network may be worse on new cases; the difference is within chance ({few})."
            )
        return lines


def gain_of(table: pd.DataFrame, kind: str) -> Gain:
    """The gain from the rows of one comparison (columns of ``comparison.csv``; one row per model, case and label)."""
    by_label = dice_by_label(table, [SOURCE, ADAPTED])
    by_case = by_label.groupby("case").mean()
    difference = (by_case[ADAPTED] - by_case[SOURCE]).to_numpy()
    losses = by_label.groupby("label").mean()
    losses = losses[ADAPTED] - losses[SOURCE]
    n = len(difference)
    bound = float("nan")
    if n >= 3 and np.ptp(difference) < 1e-12:  # the same difference in every case: a t test has no variance
        bound = float(difference.mean())
    elif n >= 3:
        from scipy.special import stdtrit  # not above: it takes a third of a second to import, for this one number

        error = difference.std(ddof=1) / np.sqrt(n)
        bound = float(difference.mean() - stdtrit(n - 1, CONFIDENCE) * error)
    return Gain(
        kind,
        n,
        float(by_case[SOURCE].mean()),
        float(by_case[ADAPTED].mean()),
        int((difference < 0).sum()),
        bound,
        {str(label): float(loss) for label, loss in losses.items() if loss < -NOTICEABLE and len(losses) > 1},
    )


def of_new_labels(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of new labels, but none of an adapted network that was the source itself: they tell nothing of adapting."""
    rows = table[table["kind"] == PREQUENTIAL]
    sources = set(rows.loc[rows["model"] == SOURCE, "network"])
    return rows[(rows["model"] != ADAPTED) | ~rows["network"].isin(sources)]


def dice_by_case(table: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """Mean Dice over labels: one row per case on which all ``models`` were measured, one column per model."""
    return dice_by_label(table, models).groupby("case").mean()


def dice_by_label(table: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """Dice by case and label, for those on which all ``models`` were measured; one column per model."""
    import pandas as pd  # not above, see the module docstring

    found = [table[table["model"] == model].set_index(["case", "label"])["dice"] for model in models]
    by_label = pd.concat(found, axis=1, keys=list(models), join="inner")
    # skip a label that is absent and that no network predicts; if only some networks predict it, the others are right (Dice 1)
    return by_label.dropna(how="all").fillna(1.0)


def read_comparison(file: Path) -> pd.DataFrame:
    """Content of a ``comparison.csv``; empty if the file is missing or damaged (everything is then measured again)."""
    import pandas as pd  # not above, see the module docstring

    texts = dict.fromkeys(("case", "network", "reference", "label"), str)
    how = {"dtype": texts, "keep_default_na": False, "na_values": {"dice": [""]}}
    try:
        return read_csv(file, **how)[COLUMNS]
    except (OSError, ValueError, KeyError):
        return pd.DataFrame(columns=COLUMNS)


def note_campaign(folder: Path, begun: str) -> None:
    """Record which campaign the rows in a folder belong to from now on."""
    if read_remade_json(folder / OWNER) != (owner := {"campaign": begun}):
        write_json(folder / OWNER, owner)


def is_of_campaign(folder: Path, begun: str) -> bool:
    """Whether the rows in a folder are from the campaign that began at ``begun``, not from one before it (``init --restart``)."""
    owner = read_remade_json(folder / OWNER)
    if isinstance(owner, dict) and "campaign" in owner:
        return owner["campaign"] == begun
    return is_written_since(folder / FILE, begun)  # an earlier version of this package wrote no owner file


def is_written_since(file: Path, begun: str) -> bool:
    """Whether a file was written after a campaign began; True if that is not known."""
    return not begun or not file.is_file() or file.stat().st_mtime > seconds_of(begun) - _COARSE


def of_source(table: pd.DataFrame, source: str | None = None) -> pd.DataFrame:
    """The rows without those cases that were compared with another source network.

    Args:
        table: rows of a ``comparison.csv``.
        source: fingerprint of the source network; None for the one that was measured last.
    """
    measured = table[table["model"] == SOURCE]
    if measured.empty:
        return table
    source = measured["network"].iloc[-1] if source is None else source
    others = set(measured.loc[measured["network"] != source, ["kind", "case"]].itertuples(index=False, name=None))
    ours = [pair not in others for pair in zip(table["kind"], table["case"], strict=True)]
    return table[np.array(ours, dtype=bool)].reset_index(drop=True)
