"""The state of a campaign, as plain data and as text."""

from __future__ import annotations

import math
from typing import Any

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_round import was_drawn
from nnunet_active.campaign.slice_request import SliceRequest


def campaign_status(campaign: Campaign) -> dict[str, Any]:
    """Settings, counts, and one entry per requested case with its score components and dominant modality (JSON types only)."""
    cases: list[dict[str, Any]] = []
    known = campaign.known_slices()
    for one in campaign.rounds:
        selection, scores = one.selection(), one.scores()
        for case in one.requested:
            row, status, asked = scores.loc[case], campaign.status_of(case), one.slices.get(case)
            # a case whose slices were labelled may wait for others that a later round asked for
            labelled = status == "labelled" if asked is None else asked.within(known.get(case)) == asked
            components = {
                name.removeprefix("component_"): float(row[name])
                for name in scores.columns
                if name.startswith("component_") and not math.isnan(row[name])
            }
            cases.append(
                {
                    "round": one.number,
                    "epoch": one.epoch,
                    "made_by": one.made_by,
                    "case": case,
                    **({} if asked is None else {"slices": asked.to_json()}),
                    "labelled": labelled,
                    "declined": case in campaign.declined and not labelled,
                    "utility": float(row["utility"]),
                    "drawn": was_drawn(selection, scores),
                    "rank_of": int(selection["candidates"]),
                    "components": components,
                    "open_first": selection["dominant_modality"].get(case, {}).get("name", ""),
                }
            )
    settings = campaign.settings
    return {
        "dataset": campaign.dataset_folder.name,
        "configuration": campaign.configuration,
        "plans": campaign.plans,
        "fold": campaign.fold,
        "strategy": settings.strategy,
        "oracle": settings.oracle,
        "budget": campaign.budget,
        **({"unit": campaign.unit, "labelled_slices": campaign.labels_by_name()} if campaign.asks_for_slices else {}),
        "rounds_done": len(campaign.rounds),
        "rounds_planned": _rounds_planned(campaign),
        "labelled_from_start": campaign.labelled_from_start,
        "labelled": campaign.labelled(),
        "waiting": campaign.waiting(),
        "declined": campaign.declined,
        "held_out": campaign.held_out(),
        "cases": cases,
    }


def format_status(campaign: Campaign) -> str:
    """The same for a terminal."""
    status = campaign_status(campaign)
    lines = [
        f"{status['dataset']} {status['configuration']} fold {status['fold']} ({status['plans']}): {status['strategy']}, "
        f"oracle {status['oracle']}, {rounds_in_words(campaign)}, budget {status['budget']}"
        + (" slices" if status.get("unit") == "slice" else ""),
        f"{len(status['labelled'])} labelled ({status['labelled_from_start']} from the start), "
        f"{len(status['waiting'])} waiting for a label, {len(status['held_out'])} held out",
    ]
    if not status["cases"]:
        return "\n".join([*lines, "No query has been made yet."])
    import pandas as pd  # not above: before the first round there is no table

    table = pd.DataFrame(
        [
            {
                "round": entry["round"],
                "asked": "between" if entry["made_by"] == "select" else f"epoch {entry['epoch']}",
                "case": entry["case"],
                **({"asked for": _words(asked)} if (asked := entry.get("slices")) else {}),
                "label": "there" if entry["labelled"] else "declined" if entry["declined"] else "waiting",
                "open first": entry["open_first"],
                **({} if entry["drawn"] else {"utility": f"{entry['utility']:.4g}"}),
                **{name: f"{value:.4g}" for name, value in entry["components"].items()},
            }
            for entry in status["cases"]
        ]
    ).fillna("")
    return "\n".join([*lines, "", table.to_string(index=False)])


def rounds_in_words(campaign: Campaign) -> str:
    """The number of rounds made in words, with the planned number; rounds between trainings are not planned ahead."""
    done = len(campaign.rounds)
    if campaign.was_asked_by_select:
        return f"{done} round{'' if done == 1 else 's'}"
    return f"round {done} of {_rounds_planned(campaign)}"


def _words(slices: dict[str, Any]) -> str:
    return SliceRequest(slices["axis"], tuple(slices["slices"])).words()


def _rounds_planned(campaign: Campaign) -> int:
    return max(campaign.settings.queries, len(campaign.rounds))
