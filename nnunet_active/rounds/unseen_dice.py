"""Collects the Dice of labelled cases by networks that had not seen them, and measures what is still missing.

In ``comparison.csv``, a training records the Dice of its network and of the source on three kinds of cases: held-out cases, new labels
before they were trained on, and cases that cross-fitting left out. A case of several kinds counts once, by the first of them in this
order. Unseen cases that were not measured yet are predicted here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from nnunet_active.data.label_agreement import is_accepted
from nnunet_active.nnunet.window import Window
from nnunet_active.rounds.forecast_record import forecast_folder
from nnunet_active.rounds.trained_models import Training
from nnunet_active.training.comparison_table import (
    ADAPTED,
    COLUMNS,
    CROSS_FIT,
    FILE,
    HELD_OUT,
    PREQUENTIAL,
    SOURCE,
    dice_by_label,
)
from nnunet_active.training.known_slices import KnownSlices
from nnunet_active.training.source_comparison import Comparison, Measured, Origin
from nnunet_active.workspace import Workspace

DICE_FILE = "dice.csv"


@dataclass(frozen=True)
class UnseenDice:
    """Dice by case (index) and label (columns); NaN if a label is neither present nor predicted. Both tables have the same cases.

    Attributes:
        source: Dice of the source network.
        network: Dice of the predicting network, or of one that was trained alike and had not seen the case.
        by_itself: cases that the predicting network itself has not seen.
    """

    source: pd.DataFrame
    network: pd.DataFrame
    by_itself: frozenset[str] = frozenset()

    @classmethod
    def nothing(cls) -> UnseenDice:
        """Empty tables."""
        empty = pd.DataFrame(index=pd.Index([], name="case"), dtype=float)
        return cls(empty, empty)

    @property
    def gains(self) -> pd.Series:
        """Gain of each case: mean Dice over labels of ``network`` minus that of ``source``."""
        return self.network.mean(axis=1) - self.source.mean(axis=1)


def recorded_dice(table: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """The Dice in a ``comparison.csv``: one row per case and label, columns ``source`` and ``adapted``.

    Args:
        table: content of the file.
        alpha: interpolation of the predicting network; if several alphas were measured, the rows of this one are used.
    """
    found: list[pd.DataFrame] = []
    known: set[str] = set()
    for kind in (HELD_OUT, PREQUENTIAL, CROSS_FIT):
        rows = table[table["kind"] == kind]
        model = next((name for name in (f"alpha {alpha:g}", ADAPTED) if (rows["model"] == name).any()), None)
        if alpha == 0 and not rows.empty:
            model = SOURCE
        if model is None:
            continue
        of_model = rows[rows["model"] == model]
        if kind == HELD_OUT and model != SOURCE:
            last = of_model.iloc[-1]
            of_model = of_model[(of_model["round"] == last["round"]) & (of_model["epoch"] == last["epoch"])]
        both = pd.concat([rows[rows["model"] == SOURCE], of_model.assign(model=ADAPTED)])
        dice = dice_by_label(both, [SOURCE, ADAPTED])
        dice = dice[~dice.index.get_level_values("case").isin(known)]
        known.update(dice.index.get_level_values("case"))
        found.append(dice)
    if not found:
        return pd.DataFrame(columns=[SOURCE, ADAPTED], index=pd.MultiIndex.from_tuples([], names=["case", "label"]))
    return pd.concat(found)


def unseen_dice(workspace: Workspace, training: Training | None, network: Window, source: Window) -> UnseenDice:
    """Dice of the campaign's labelled and held-out cases. Predictions that a person accepted unchanged do not count.

    Args:
        workspace: its campaign knows which labels may be opened.
        training: the predicting network's training; None if the source network predicts.
        network: the predicting network.
        source: the source network; may be the same object as ``network``.
    """
    campaign = workspace.campaign
    slices = KnownSlices(campaign, workspace.store, workspace.dataset_json, workspace.fold)
    slices.prepare(campaign.labelled(), campaign.held_out(), campaign.known_slices())
    labels, dice = workspace.dataset_json["labels"], []
    if training is not None:
        file, origin = training.checkpoint.parent / FILE, Origin(campaign.begun)
        recorded = Comparison(file, workspace.store, labels, known=slices.folder, origin=origin)
        dice.append(recorded_dice(recorded.of_now(), training.interpolation))
    known = set(dice[0].index.get_level_values("case")) if dice else set()
    labelled, held_out = campaign.labelled(), campaign.held_out()
    seen = set() if training is None else set(labelled if training.labelled is None else training.labelled)
    stored = set(workspace.store.labelled_identifiers())
    able = {case for case in (*labelled, *held_out) if not is_accepted(campaign.ingested.get(case, {}))} & stored
    comparison = Comparison(forecast_folder(campaign) / DICE_FILE, workspace.store, labels, known=slices.folder)
    for kind, cases in ((HELD_OUT, held_out), (PREQUENTIAL, set(labelled) - set(held_out))):
        new = sorted((able & set(cases)) - seen - known)
        dice.append(_measured(comparison, network, source, new, kind))
    table = pd.concat([part for part in dice if len(part)]) if any(map(len, dice)) else recorded_dice(_nothing(), 1)
    names = [name for name in workspace.class_names if name in set(table.index.get_level_values("label"))]
    by_model = [table[model].astype(float).unstack("label").reindex(columns=names) for model in (SOURCE, ADAPTED)]
    return UnseenDice(*by_model, frozenset(by_model[0].index) - seen)


def _nothing() -> pd.DataFrame:
    return pd.DataFrame(columns=COLUMNS)


def _measured(comparison: Comparison, network: Window, source: Window, cases: Sequence[str], kind: str) -> pd.DataFrame:
    """Dice of both networks on cases that neither has seen; cases in ``dice.csv`` are not predicted again."""
    if not cases:
        return recorded_dice(_nothing(), 1)
    comparison.measure(source, Measured(SOURCE, source.digest), cases, kind)
    if network is not source:
        comparison.measure(network, Measured(ADAPTED, network.digest), cases, kind)
    rows = comparison.table
    rows = rows[(rows["kind"] == kind) & rows["case"].isin(cases)]
    return recorded_dice(rows, 1 if network is not source else 0)
