"""The question of every campaign, answered first: is the adapted model better than the source model on cases that it had not seen?

The numbers are those of ``comparison.csv``, which every training writes beside its checkpoints; nothing is predicted here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.rounds.trained_models import Training, corrected_after
from nnunet_active.training.certificate_table import CERTIFICATE_FILE, certificate_of, read_certificate
from nnunet_active.training.comparison_table import (
    ADAPTED,
    FILE,
    HELD_OUT,
    PREQUENTIAL,
    SOURCE,
    Gain,
    dice_by_case,
    dice_by_label,
    gain_of,
    is_of_campaign,
    is_written_since,
    of_source,
    read_comparison,
)

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Answer:
    """What one training found out about itself.

    Attributes:
        trainer: class name as in ``-tr``.
        fold: a number as text, or ``all``.
        gain: the adapted model against the source model, after the last round that was measured.
        cases: index: case; columns ``source``, ``adapted``: mean Dice over the labels.
        labels: index: label; the same, means over the cases.
    """

    trainer: str
    fold: str
    gain: Gain
    cases: pd.DataFrame
    labels: pd.DataFrame

    @property
    def sentence(self) -> str:
        """One sentence for everybody."""
        gain = self.gain
        many = f"{gain.cases} case{'s' if gain.cases != 1 else ''}"
        seen = "it had not seen" if gain.kind == HELD_OUT else "it had not seen when their labels came in"
        if gain.cases == 1 and gain.kind != HELD_OUT:
            seen = "it had not seen when its label came in"
        went = "fell" if gain.is_worse else "went" if gain.adapted > gain.source else "stayed"
        dice = (
            f"at a mean Dice of {gain.source:.3f}"
            if went == "stayed"
            else f"from a mean Dice of {gain.source:.3f} to {gain.adapted:.3f}"
        )
        worse = "none" if not gain.worse else f"{gain.worse} of them" if gain.cases > 1 else "it"
        return f"On {many} {seen}, the adapted model {went} {dice} and was worse in {worse}."

    @property
    def advice(self) -> str:
        """What follows from it; empty where nothing does."""
        gain = self.gain
        if gain.is_worse:
            return "Keep the source model, or fine-tune more gently (nnunet_active init --recipe held_out --restart)."
        if not gain.bound >= 0:
            few = "that few cases" if gain.cases < 3 else "cases that differ so much"
            return f"With {few} that may be chance."
        return ""


NOT_KNOWN = (
    "Whether the adapted model is better than the source model is not known yet: a training measures it on labelled cases that are "
    "held out, or on new labels before it is trained on them."
)


def newest_answer(trainings: Iterable[Training], campaign: Campaign) -> str:
    """The sentence of the newest training that could measure itself, and what follows from it; empty where none could.

    Args:
        trainings: of the campaign, the newest first (see :func:`~nnunet_active.rounds.trained_models.trainings_of`).
        campaign: what was measured in one before it is not told.
    """
    first = next(iter(answers_of(trainings, campaign)), None)
    return "" if first is None else f"{first.sentence} {first.advice}".strip()


def newest_certificate(trainings: Iterable[Training], campaign: Campaign) -> str:
    """By how much the newest training that could tell can differ from the source on unlabelled cases; empty where none could.

    Args:
        trainings: as for :func:`newest_answer`.
    """
    files = (training.checkpoint.parent / CERTIFICATE_FILE for training in trainings)
    files = (file for file in files if file.is_file() and is_written_since(file, campaign.begun))
    found = (certificate_of(read_certificate(file)) for file in files)
    return next((certificate.sentence for certificate in found if certificate is not None), "")


def answers_of(trainings: Iterable[Training], campaign: Campaign) -> list[Answer]:
    """One for each training that could measure itself, in their order.

    Args:
        trainings: as for :func:`newest_answer`.
    """
    found: dict[Path, Answer] = {}
    for training in trainings:
        folder = training.checkpoint.parent
        if folder not in found and (answer := _answer_of(training, campaign)) is not None:
            found[folder] = answer
    return list(found.values())


def _answer_of(training: Training, campaign: Campaign) -> Answer | None:
    folder = training.checkpoint.parent
    if not (folder / FILE).is_file() or not is_of_campaign(folder, campaign.begun):
        return None
    table = of_source(read_comparison(folder / FILE))
    rows, kind = _latest(table[~table["case"].isin(corrected_after(campaign, training.saved))])
    gain = gain_of(rows, kind)
    if not gain.cases:
        return None
    models = [SOURCE, ADAPTED]
    by_label = dice_by_label(rows, models).groupby("label").mean()
    order = list(dict.fromkeys(rows["label"]))
    return Answer(
        training.trainer, training.fold, gain, dice_by_case(rows, models), by_label.reindex(order).dropna(how="all")
    )


def _latest(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows of held-out cases after the last round that was measured; where there are none, those of new labels."""
    held_out = table[table["kind"] == HELD_OUT]
    adapted = held_out[held_out["model"] == ADAPTED]
    if adapted.empty:
        return table[table["kind"] == PREQUENTIAL], PREQUENTIAL
    import pandas as pd  # not above: most trainings at hand have no such table yet

    last = adapted.iloc[-1]
    now = (adapted["round"] == last["round"]) & (adapted["epoch"] == last["epoch"])
    return pd.concat([held_out[held_out["model"] == SOURCE], adapted[now]]), HELD_OUT
