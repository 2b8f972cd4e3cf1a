"""A forecast in words for people, and as JSON for scripts."""

from __future__ import annotations

import math
from typing import Any

from nnunet_active.forecast.expected_dice import COVERAGE, LABELS_NEEDED, DiceEstimate
from nnunet_active.rounds.forecast_record import Moved
from nnunet_active.rounds.forecasting import Forecast

FAILS = 0.5
"""Cases with a lower expected Dice are marked (our choice)."""
WORST = 10


def forecast_lines(forecast: Forecast) -> list[str]:
    """The forecast as one screen of text."""
    workspace, training = forecast.workspace, forecast.training
    who = "the source network" if training is None else f"{training.trainer}, fold {training.fold}"
    head = f"{workspace.dataset} {workspace.configuration}: {len(forecast.cases)} unlabelled cases, predicted by {who}."
    lines = [head, "", *expected_sentences(forecast)]
    if len(forecast.by_class) > 1:
        lines += ["", *(f"  {name}: {_number(one)}" for name, one in forecast.by_class.items())]
    lines += [
        "",
        "Cases that will most probably fail, the worst first" + ("" if forecast.overall.calibrated else _RANK) + ":",
    ]
    for case, row in forecast.cases.head(WORST).iterrows():
        lost = f"  no {row['lost']} predicted" if row["lost"] else ""
        lost = "  nothing predicted" if row["confidence"] == 0 else lost
        mark = "!" if row["expected"] < FAILS or lost else " "
        lines.append(f"{mark} {case}  {row['expected']:.2f}{lost}")
    if (left := len(forecast.cases) - WORST) > 0:
        lines.append(f"  and {left} more (--json lists all)")
    return [*lines, "", *outlook_sentences(forecast), *_calibration(forecast)]


def _calibration(forecast: Forecast) -> list[str]:
    if forecast.temperature == 1:
        return []
    return [f"Uncertainty maps of this network are calibrated from now on (temperature {forecast.temperature:.2f})."]


_RANK = " (the order counts, the numbers are guesses)"


def expected_sentences(forecast: Forecast) -> list[str]:
    """The expected mean Dice, and the number of cases whose Dice is assumed to be 0."""
    overall, there = forecast.overall, forecast.overall.labels
    if overall.calibrated:
        said = (
            f"Expected mean Dice of the unlabelled cases: {_number(overall)}, from {there} labelled cases that the network "
            f"had not seen."
        )
    else:
        guess = "" if math.isnan(overall.uncalibrated) else f" Until then, {overall.uncalibrated:.2f} is a guess."
        said = (
            f"The mean Dice of the unlabelled cases is not known yet: it takes {LABELS_NEEDED} labelled cases that the network has "
            f"not seen, and there {'is' if there == 1 else 'are'} {there}.{guess}"
        )
    if empty := int((forecast.cases["confidence"] == 0).sum()):
        return [
            said,
            f"Nothing is predicted in {empty} of the {len(forecast.cases)}; a Dice of 0 is assumed there, also where there is "
            f"nothing to find.",
        ]
    return [said]


def outlook_sentences(forecast: Forecast) -> list[str]:
    """Whether the next labels will pay off, and how much they can change at most."""
    if forecast.training is None:
        lines = ["Too early to say whether the next labels will pay: no adapted network has been trained yet."]
    elif forecast.is_source:
        lines = [
            "Too early to say whether the next labels will pay: those so far have not shown that leaving the source network pays, so "
            "the training kept its weights (alpha 0). The next training judges again."
        ]
    else:
        lines = forecast.outlook.lines()
    return lines + ([moved_sentence(forecast.moved)] if forecast.moved is not None else [])


def moved_sentence(moved: Moved) -> str:
    """The largest change of the mean IoU since the last forecast's network."""
    return (
        f"Since the last forecast's network ({moved.labels} label{'' if moved.labels == 1 else 's'}), the mean IoU of the unlabelled "
        f"cases can have changed by at most {moved.distance:.3f}; expect no more of the next labels."
    )


def forecast_json(forecast: Forecast) -> dict[str, Any]:
    """The forecast in JSON types only; unknown values are null."""
    cases = {
        case: {
            **{name: _or_none(row[name]) for name in ("expected", "agreement", "confidence")},
            "lost": row["lost"].split(", ") if row["lost"] else [],
            "classes": {name: _or_none(value) for name, value in forecast.classes.loc[case].items()},
        }
        for case, row in forecast.cases.iterrows()
    }
    outlook, moved = forecast.outlook, forecast.moved
    return {
        "dataset": forecast.workspace.dataset,
        "configuration": forecast.workspace.configuration,
        "trainer": None if forecast.training is None else forecast.training.trainer,
        "expected_dice": _estimate(forecast.overall),
        "classes": {name: _estimate(one) for name, one in forecast.by_class.items()},
        "judged_by": list(forecast.judged),
        "verdict": outlook.verdict,
        "gain": {name: _or_none(getattr(outlook, name)) for name in ("gain", "low", "high", "cases")},
        "next_gain_at_most": None if moved is None else moved.distance,
        "cases": cases,
        "temperature": forecast.temperature,
        "predicted_now": forecast.passes,
        "problems": forecast.problems,
        "sentences": [*expected_sentences(forecast), *outlook_sentences(forecast)],
    }


def _estimate(one: DiceEstimate) -> dict[str, Any]:
    names = ("mean", "low", "high", "labels", "uncalibrated")
    return {**{name: _or_none(getattr(one, name)) for name in names}, "calibrated": one.calibrated}


def _number(one: DiceEstimate) -> str:
    if not one.calibrated:
        return "not known" + ("" if math.isnan(one.uncalibrated) else f" (a guess: {one.uncalibrated:.2f})")
    return f"{one.mean:.2f} ({COVERAGE:.0%} interval {one.low:.2f} to {one.high:.2f})"


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 4) if isinstance(value, float) else int(value)
