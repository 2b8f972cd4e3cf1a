"""The ranked table of a round: the chosen cases, the next best, and a bar for every component."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_round import Round
from nnunet_active.query.query_tables import stands_out
from nnunet_active.rounds.round_table import Query, expected_minutes
from nnunet_active.rounds.score_words import NAMES_ONLY, meaning

NEXT_BEST = 15
"""Number of candidates shown after the chosen ones; the rest is in ``scores.csv``."""


def ranking(campaign: Campaign, one: Round, query: Query, metric: bool = True) -> dict[str, Any]:
    """What the page shows about one round.

    Args:
        campaign: an opened campaign.
        one: the round.
        query: the same round, read from its files.
        metric: whether volumes in mm³ are meaningful; otherwise voxels are shown.

    Returns:
        ``number``, ``strategy``, ``made_by``, ``epoch``, ``requested``, ``candidates``, ``seconds``, ``expected_minutes``, ``notes``,
        ``set_aside``, ``columns`` (title and meaning), ``rows`` (case, choice, status, cells with text, value and bar in percent),
        ``left_out`` (rows not shown) and ``table`` (every column of the shown rows as text). The bar of a column runs from 0, or its
        lowest value if that is negative, to its highest value among all candidates.
    """
    selection, scores = query.selection, query.scores
    shown = scores.head(len(one.requested) + NEXT_BEST)
    columns = [
        *([] if query.drawn else [_column("utility", "what the strategy ranks by; higher is chosen first")]),
        *(_column(name, meaning(name.removeprefix("component_"))) for name in query.components()),
    ]
    if metric and "foreground_mm3" in scores.columns:
        columns.append(
            {"name": "foreground_mm3", "title": "predicted cm³", "meaning": "volume predicted as foreground"}
        )
    elif "foreground_voxels" in scores.columns:
        columns.append(_column("foreground_voxels", meaning("foreground_voxels")))
    elections = selection.get("dominant_modality", {})
    rows = []
    for case, row in shown.iterrows():
        rows.append(
            {
                "case": case,
                "choice": one.requested.index(case) + 1 if case in one.requested else None,
                "status": campaign.status_of(str(case)),
                "open_first": elections[case]["name"] if stands_out(elections.get(case, {})) else "",
                "cells": [_cell(row[column["name"]], scores[column["name"]], column["name"]) for column in columns],
            }
        )
    return {
        "number": one.number,
        "strategy": selection.get("strategy", campaign.settings.strategy),
        "made_by": one.made_by,
        "epoch": one.epoch,
        "requested": list(one.requested),
        "candidates": len(scores),
        "seconds": selection.get("seconds"),
        "expected_minutes": expected_minutes(query),
        "notes": list(selection.get("notes", ())),
        "set_aside": dict(selection.get("set_aside", {})),
        "columns": columns,
        "rows": rows,
        "left_out": len(scores) - len(shown),
        "table": {
            "columns": [str(name) for name in shown.columns],
            "rows": [[str(case), *(as_text(value) for value in row)] for case, row in shown.iterrows()],
        },
    }


def as_text(value: Any) -> str:
    """The text of a table cell: four significant digits, separated thousands, empty for a missing value."""
    if isinstance(value, str):
        return value
    if value is None or pd.isna(value):
        return ""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if float(value).is_integer() and abs(value) < 1e12:
        return f"{int(value):,}".replace(",", "\N{THIN SPACE}")
    if abs(value) >= 10_000:
        return f"{value:,.0f}".replace(",", "\N{THIN SPACE}")
    return f"{value:.4g}"


def _column(name: str, words: str) -> dict[str, str]:
    title = name.removeprefix("component_").replace("_", " ")
    return {"name": name, "title": title, "meaning": words}


def _cell(value: float, column: pd.Series, name: str) -> dict[str, Any]:
    if pd.isna(value):
        return {"text": "", "value": None, "bar": None}
    known = column[np.isfinite(column)]
    low, high = min(0.0, known.min()), known.max()
    named = name.removeprefix("component_") in NAMES_ONLY
    bar = None if named or high <= low or not np.isfinite(value) else round(100 * (value - low) / (high - low), 1)
    text = f"{value / 1000:.1f}" if name == "foreground_mm3" else as_text(float(value))
    return {"text": text, "value": float(value), "bar": bar}
