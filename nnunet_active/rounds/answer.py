"""Answers the main question of a campaign: is the adapted model better than the source model on cases that it had not seen?

The numbers come from ``comparison.csv``, which every training writes beside its checkpoints. Nothing is predicted here.
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
    KEPT_SOURCE,
    PREQUENTIAL,
    SOURCE,
    Gain,
    dice_by_case,
    dice_by_label,
    gain_of,
    is_of_campaign,
    is_written_since,
    of_new_labels,
    of_source,
    read_comparison,
)

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Answer:
    """The comparison of one training's model with the source model.

    Attributes:
        trainer: class name as in ``-tr``.
        fold: a number as text, or ``all``.
        gain: the adapted model against the source model, after the last measured round. It and the tables are None if the training
            kept the source model, because there is nothing to compare then.
        cases: mean Dice over the labels; one row per case, columns ``source`` and ``adapted``.
        labels: mean Dice over the cases; one row per label, the same columns.
    """

    trainer: str
    fold: str
    gain: Gain | None = None
    cases: pd.DataFrame | None = None
    labels: pd.DataFrame | None = None

    @property
    def sentence(self) -> str:
        """The answer as one plain sentence."""
        if (gain := self.gain) is None:
            return KEPT_SOURCE
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
        """What to do or to keep in mind about it; empty if nothing."""
        if (gain := self.gain) is None:
            return ""
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
    """Sentence and advice of the newest training that has a comparison or kept the source; empty if none has.

    Args:
        trainings: the campaign's trainings, newest first (see :func:`~nnunet_active.rounds.trained_models.trainings_of`).
        campaign: measurements from an earlier campaign are left out.
    """
    first = next(iter(answers_of(trainings, campaign)), None)
    return "" if first is None else f"{first.sentence} {first.advice}".strip()


def newest_certificate(trainings: Iterable[Training], campaign: Campaign) -> str:
    """Sentence of the newest training's certificate: how much it can differ from the source on unlabelled cases; empty if none, or
    if that training kept the source.

    Args:
        trainings: as for :func:`newest_answer`.
    """
    for training in trainings:
        file = training.checkpoint.parent / CERTIFICATE_FILE
        if not file.is_file() or not is_written_since(file, campaign.begun):
            continue
        if training.is_source:
            return ""
        if (certificate := certificate_of(read_certificate(file))) is not None:
            return certificate.sentence
    return ""


def answers_of(trainings: Iterable[Training], campaign: Campaign) -> list[Answer]:
    """One answer for each training that has a comparison or kept the source, in the order of ``trainings``.

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
    if training.is_source and is_written_since(training.checkpoint, campaign.begun):
        return Answer(training.trainer, training.fold)
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
    """Rows of the held-out cases after the last measured round; if there are none, the rows of new labels."""
    held_out = table[table["kind"] == HELD_OUT]
    adapted = held_out[held_out["model"] == ADAPTED]
    if adapted.empty:
        return of_new_labels(table), PREQUENTIAL
    import pandas as pd  # not above: most trainings have no such table yet

    last = adapted.iloc[-1]
    now = (adapted["round"] == last["round"]) & (adapted["epoch"] == last["epoch"])
    return pd.concat([held_out[held_out["model"] == SOURCE], adapted[now]]), HELD_OUT
