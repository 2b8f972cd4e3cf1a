"""How much the experts changed the network's predictions, label by label in order of arrival."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.data.label_agreement import is_accepted
from nnunet_active.report.svg_plots import dice_plot, volume_plot
from nnunet_active.util.moments import for_people, seconds_of


def agreement_of_labels(campaign: Campaign, colours: Mapping[str, str], metric: bool = True) -> dict[str, Any]:
    """Table and plots of ``campaign.ingested``.

    Args:
        campaign: an opened campaign.
        colours: colour of each class, as in the hand-off folder.
        metric: whether volumes are in mm³; otherwise they are numbers of pixels.

    Returns:
        ``rows`` in the order in which the labels arrived (case, round, time, corrections, changed voxels, whether the prediction was
        accepted unchanged, and per class Dice, predicted and labelled volume), ``unit`` of the volumes, with where they lie,
        ``classes``, ``means`` (mean Dice of each class over the changed labels), ``accepted`` (number of unchanged ones), and, if
        there is something to draw, ``dice_svg`` and ``volume_svg``.
    """
    entries = sorted(campaign.ingested.items(), key=lambda item: _came(item[1]))
    number = {case: one.number for one in campaign.rounds for case in one.requested}
    classes = list(
        dict.fromkeys(
            name
            for _, facts in entries
            for key in ("dice", "volume_predicted_mm3", "volume_label_mm3")
            for name in _of(facts, key)
        )
    )
    factor, unit = (1000.0, "cm³") if metric else (1.0, "pixels")
    if campaign.known_slices().keys() & campaign.ingested:  # the prediction may go on in the others
        unit += " in the asked slices"

    def scaled(volume: float | None) -> float | None:
        return None if volume is None else volume / factor

    rows = [
        {
            "case": case,
            "round": number.get(case),
            "time": for_people(str(facts.get("time") or "")),
            "corrections": facts.get("corrections") or 0,
            "changed_voxels": facts.get("changed_voxels"),
            "accepted": is_accepted(facts),
            "classes": [
                {
                    "name": name,
                    "dice": _of(facts, "dice").get(name),
                    "predicted": scaled(_of(facts, "volume_predicted_mm3").get(name)),
                    "label": scaled(_of(facts, "volume_label_mm3").get(name)),
                }
                for name in classes
            ],
        }
        for case, facts in entries
    ]
    # the Dice of 1 of an unchanged prediction would make the network look better than it is
    dice = {
        name: [None if row["accepted"] else row["classes"][i]["dice"] for row in rows] for i, name in enumerate(classes)
    }
    known = {name: [value for value in values if value is not None] for name, values in dice.items()}
    means = {name: sum(values) / len(values) for name, values in known.items() if values}
    pairs = {
        name: [
            (label / factor, predicted / factor)
            for _, facts in entries
            if (label := _of(facts, "volume_label_mm3").get(name)) is not None
            and (predicted := _of(facts, "volume_predicted_mm3").get(name)) is not None
            and not is_accepted(facts)
        ]
        for name in classes
    }
    content: dict[str, Any] = {"rows": rows, "classes": classes, "means": means, "unit": unit}
    content["accepted"] = sum(row["accepted"] for row in rows)
    if means:
        content["dice_svg"] = dice_plot([case for case, _ in entries], dice, colours, "dice")
    if any(pairs.values()):
        content["volume_svg"] = volume_plot(pairs, unit, colours, "volume")
    return content


def _came(facts: dict[str, Any]) -> float:
    try:
        return seconds_of(facts.get("time") or "")
    except ValueError:  # not known, or written by hand
        return 0.0


def _of(facts: dict[str, Any], key: str) -> dict[str, float | None]:
    return facts.get(key) or {}
