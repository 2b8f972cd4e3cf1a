"""The page's first statement: how good the adapted model is on cases that it had not seen, or that this is not known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.rounds.answer import NOT_KNOWN, Answer, answers_of, newest_certificate
from nnunet_active.rounds.forecast_record import forecast_sentences
from nnunet_active.rounds.trained_models import trainings_of


def first_answer(campaign: Campaign, results: Path) -> dict[str, Any]:
    """The comparison of the campaign's newest training, and one sentence for each of its other trainings.

    Args:
        campaign: an opened campaign.
        results: ``nnUNet_results``.

    Returns:
        ``sentence`` (empty before the first training), ``advice``, ``good`` (True, False, or None if not known, or if the source was
        kept), ``trained`` (trainer and fold), ``labels`` and ``cases`` (name, Dice of the source model, of the adapted model,
        difference), and ``others`` (trained, sentence) of the campaign's other trainings; ``certificate``, a sentence on the unlabelled
        cases, or empty; ``forecast``, the sentences of the last forecast.
    """
    trainings = trainings_of(campaign, results)
    found, bound = answers_of(trainings, campaign), newest_certificate(trainings, campaign)
    said = {"certificate": bound, "forecast": forecast_sentences(campaign, trainings)}
    nothing: dict[str, Any] = {"advice": "", "good": None, "trained": "", "labels": [], "cases": [], "others": []}
    if not found:
        return {**nothing, **said, "sentence": NOT_KNOWN if trainings else ""}
    newest, *others = found
    return {
        **said,
        "sentence": newest.sentence,
        "advice": newest.advice,
        "good": None if newest.gain is None else not newest.gain.is_worse,
        "trained": _trained(newest),
        "labels": _rows(newest.labels),
        "cases": _rows(newest.cases),
        "others": [(_trained(other), other.sentence) for other in others],
    }


def _trained(answer: Answer) -> str:
    return f"{answer.trainer}, fold {answer.fold}"


def _rows(table: pd.DataFrame | None) -> list[tuple[str, float, float, float]]:
    if table is None:
        return []
    return [
        (str(name), float(source), float(adapted), float(adapted - source))
        for name, source, adapted in table[["source", "adapted"]].itertuples()
    ]
