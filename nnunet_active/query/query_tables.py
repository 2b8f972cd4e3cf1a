"""The results of one query as tables and in words: all scores, the annotator's worklist, and a few lines for the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from nnunet_active.campaign.campaign_round import PROBABILITY, Round, was_drawn
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.scoring.modality import ModalityElection
from nnunet_active.strategies.base import Selection

if TYPE_CHECKING:  # scoring imports PyTorch, which these tables do not need
    from nnunet_active.query.pool_scoring import PoolScores


def score_table(scored: PoolScores, selection: Selection, class_names: Sequence[str]) -> pd.DataFrame:
    """One row per candidate, the picks first: every component of every score, ``utility``, ``picked`` (rank or NaN)."""
    table = scored.table.copy()
    if "class_volume" in scored.arrays:
        volume = scored.arrays["class_volume"]
        for index, name in enumerate(class_names[: volume.shape[1]]):
            if name != "background":
                table[f"voxels_{name}"] = volume[:, index]
    table = table.join(selection.components.rename(columns=lambda name: f"component_{name}"))
    first = selection.utilities.iloc[0]
    # another scan of the same patient may become a candidate only at a later step
    table["utility"] = selection.utilities.bfill().iloc[0] if first.isna().any() else first
    table["picked"] = pd.Series({case: rank for rank, case in enumerate(selection.picks, 1)})
    return table.sort_values(["picked", "utility"], ascending=[True, False], kind="stable")


def worklist_table(
    selection: Selection,
    table: pd.DataFrame,
    elections: dict[str, ModalityElection],
    channel_names: Sequence[str],
    slices: Mapping[str, SliceRequest],
    drawn: bool = False,
) -> pd.DataFrame:
    """One row per pick, for the annotator: the channel to open first, how well each channel alone agrees, and the requested slices.

    Slices are counted from 1; ``slices`` is empty if whole cases are asked for. With ``drawn``, the utility is random, so the table
    holds the probability instead, if it is known.
    """
    rows: list[dict[str, Any]] = []
    for rank, case in enumerate(selection.picks, 1):
        election = elections[case]
        row: dict[str, Any] = {"rank": rank, "case": case, "open_first": channel_names[election.channel]}
        row.update({f"dice_{name}_alone": dice for name, dice in zip(channel_names, election.dice, strict=True)})
        for column in ("foreground_mm3", "mean_entropy", PROBABILITY if drawn else "utility"):
            if column in table:
                row[column.removeprefix("component_")] = table.loc[case, column]
        if case in slices:
            row["axis"] = slices[case].axis
            row["slices"] = " ".join(str(index + 1) for index in slices[case].slices)
        rows.append(row)
    return pd.DataFrame(rows)


def stands_out(election: Mapping[str, Any]) -> bool:
    """Whether one channel should be opened first, from ``dominant_modality`` of ``selection.json``."""
    dice = election.get("dice") or ()
    return bool(election) and election.get("decided", True) and not (len(dice) > 1 and max(dice) == 1)


def open_first_words(election: Mapping[str, Any]) -> str:
    """The channel to open first and how reliable that is, in words, from ``dominant_modality`` of ``selection.json``."""
    name, dice = election["name"], election.get("dice") or ()
    if len(dice) > 1 and max(dice) == 1:
        return (
            f"Open {name} first, or any other: this channel alone gives the whole prediction, as in a network that does not use "
            f"the other channels yet, so this says nothing about which of them shows the target best."
        )
    if not election.get("decided", True):
        return (
            f"Open {name} first, or any other: no channel alone leads the network to what it predicts from all of them."
        )
    best = f" (Dice {max(dice):.2f})" if dice else ""
    return (
        f"Open {name} first: this channel alone leads the network closest to what it predicts from all channels{best}."
    )


def election_details(elections: Mapping[str, ModalityElection], channel_names: Sequence[str]) -> dict[str, Any]:
    """The elections for ``selection.json``."""
    return {
        case: {"channel": e.channel, "name": channel_names[e.channel], "dice": list(e.dice), "decided": e.decided}
        for case, e in elections.items()
    }


def describe_round(made: Round) -> list[str]:
    """The requested cases and the reasons, in a few lines."""
    selection, scores = made.selection(), made.scores()
    drawn = was_drawn(selection, scores)
    lines = [
        f"Query {made.number} before epoch {made.epoch}: '{selection['strategy']}' chose {len(made.requested)} of "
        f"{selection['candidates']} cases in {selection['seconds']} s"
    ]
    for case in made.requested:
        row = scores.loc[case]
        parts = [
            f"{name.removeprefix('component_')} {row[name]:.4g}"
            for name in scores.columns
            if name.startswith("component_")
        ]
        election = selection["dominant_modality"][case]
        first = f"; open {election['name']} first" if stands_out(election) else "; no channel stands out"
        which = f"; {made.slices[case].words()}" if case in made.slices else ""
        why = f" ({', '.join(parts)})" if parts else ""
        chosen = f"drawn{why}" if drawn else f"utility {row['utility']:.4g}{why}"
        lines.append(f"  {case}: {chosen}{first}{which}")
    return lines + [f"  note: {note}" for note in selection["notes"]]
