"""Explains why a case was or was not chosen, in numbers for scripts; ``explanation_words`` puts them in words.

Everything comes from the records of the rounds. Nothing is computed anew, so the explanation matches the query.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_round import PROBABILITY
from nnunet_active.rounds.round_table import Query
from nnunet_active.rounds.score_words import NAMES_ONLY, SCORES, meaning
from nnunet_active.util.errors import MissingInput

_CLEAR = 0.2  # with a smaller rank correlation with the utility, a factor counts neither for nor against a case

# a probability grows from step to step, as fewer are left
_UNRANKED = NAMES_ONLY | {PROBABILITY.removeprefix("component_")}

NOTHING: Mapping[str, str] = MappingProxyType({})


def explain_case(
    campaign: Campaign, case: str, others: Iterable[str] = (), aside: Mapping[str, str] = NOTHING
) -> dict[str, Any]:
    """Everything known about the choice of one case (JSON types only).

    Args:
        campaign: an opened campaign.
        case: identifier.
        others: further cases of the data set; they may not have been in any query yet.
        aside: one sentence for each case that was set aside and cannot be asked for.

    Returns:
        ``case``, ``status`` (one sentence), ``rounds`` (one entry per query in which the case was a candidate or was set aside) and
        ``label`` (facts about the label that came back, or None).

    Raises:
        MissingInput: the data set has no such case; the message lists similar names.
    """
    queries = [Query.of_round(one) for one in campaign.rounds]
    rounds = [entry for query in queries if (entry := explain_choice(query, case)) is not None]
    status = _status(campaign, case, bool(rounds))
    if not status and case in aside:
        status = f"{case} is set aside and cannot be asked for until that is mended: {aside[case]}"
    elif not status:
        if case not in set(others):
            _raise_unknown(campaign, case, [*others, *aside])
        status = f"{case} has not been in any query yet: it is new, or it is not preprocessed."
        if companions := campaign.settings.patients.companions([case], _known(campaign)):
            other = min(companions)
            status = f"{case} has not been a candidate yet: a round asks for one scan of a patient, and {other} is of the same."
    return {"case": case, "status": status, "rounds": rounds, "label": campaign.ingested.get(case)}


def explain_choice(query: Query, case: str) -> dict[str, Any] | None:
    """What a query knew about a case and how it ranked it; None if the case was not a candidate."""
    selection, scores, requested = query.selection, query.scores, query.requested
    if case not in scores.index:
        problem = selection.get("set_aside", {}).get(case)
        return {"round": query.number, "set_aside": problem} if problem else None
    row = scores.loc[case]
    election = selection.get("dominant_modality", {}).get(case)
    factors = [_entry(name.removeprefix("component_"), scores[name], case, requested) for name in query.components()]
    return {
        "round": query.number,
        "made_by": query.made_by,
        "strategy": selection["strategy"],
        "candidates": len(scores),
        "asked_for": len(requested),
        "position": requested.index(case) + 1 if case in requested else None,
        "must_include": case in selection.get("must_include", ()),
        "utility": _number(row["utility"]),
        "utility_rank": _rank(scores["utility"], case),
        "drawn": query.drawn,
        "chance": query.chance,
        "never_drawn": _never_drawn(query, case),
        "steps": _steps(selection["utilities"], requested, case),
        "factors": factors,
        "for_and_against": _for_and_against(query, case),
        "scores": [_entry(name, scores[name], case, requested) for name in SCORES if name in scores.columns],
        "open_first": {key: election[key] for key in ("name", "dice", "decided") if key in election}
        if election and len(election.get("dice") or ()) != 1  # a single channel leaves no choice
        else None,
        "slices": selection.get("slice_choice", {}).get(case),
        "notes": list(selection.get("notes", ())),
    }


def _status(campaign: Campaign, case: str, candidate: bool) -> str:
    rounds = {name: one for one in campaign.rounds for name in one.requested}
    if case in campaign.val:
        return f"{case} is held out for validation and is never asked for."
    if case in campaign.initial:
        return f"{case} had a label from the start."
    if case in rounds:
        asked = f"{case} was asked for in round {rounds[case].number}"
        if case in campaign.declined:
            reason = campaign.declined[case]
            return f"{asked} and declined{f' ({reason})' if reason else ''}; it is not asked for again."
        return f"{asked}; its label {'has not come back yet' if case in campaign.waiting() else 'is there'}."
    if campaign.status_of(case) == "labelled":
        return f"{case} was labelled without being asked for."
    if campaign.status_of(case) == "declined":
        reason = campaign.declined[case]
        return (
            f"{case} was declined before this campaign began{f' ({reason})' if reason else ''}, and is not asked for."
        )
    if campaign.status_of(case) == "excluded":
        return f"{case} is excluded and is never asked for."
    return f"{case} is in the pool and has not been asked for." if candidate else ""


def _raise_unknown(campaign: Campaign, case: str, others: Iterable[str]) -> None:
    similar = difflib.get_close_matches(case, sorted({*others, *_known(campaign)}), n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(similar)}?" if similar else "; nnunet_active status lists the cases asked for."
    raise MissingInput(f"{campaign.dataset_folder.name} has no case {case}{hint}")


def _known(campaign: Campaign) -> set[str]:
    """Cases that are labelled or held out, or that were candidates or requested."""
    candidates = {str(case) for one in campaign.rounds for case in one.scores().index}
    return {*campaign.val, *campaign.labelled(), *campaign.requested(), *candidates}


def _for_and_against(query: Query, case: str) -> dict[str, str | None]:
    """The factors that counted most for and against the choice of a case.

    Sign and weight of a factor come from the query itself: the rank correlation of the factor with the utility, times how far the
    case ranks from the middle of the candidates. Where chance decides, nothing counts; nor does a value that most cases share.
    """
    pulls = {}
    if query.drawn:
        return {"for": None, "against": None}
    for column in query.components():
        values, name = query.scores[column], column.removeprefix("component_")
        if name in _UNRANKED or pd.isna(values[case]) or _shared(values, case):
            continue
        correlation = values.rank().corr(query.scores["utility"].rank())
        if abs(correlation) >= _CLEAR:
            share = (values.rank()[case] - 1) / max(1, values.notna().sum() - 1)  # 0 lowest, 1 highest
            pulls[name] = (2 * share - 1) * correlation  # a factor hardly related to the utility counts little
    best, worst = max(pulls, key=pulls.get, default=None), min(pulls, key=pulls.get, default=None)
    return {
        "for": best if best and pulls[best] > 0 else None,
        "against": worst if worst and pulls[worst] < 0 else None,
    }


def _steps(utilities: list[dict[str, float]], requested: tuple[str, ...], case: str) -> list[dict[str, Any]]:
    """The case's utility at every greedy step until it was picked, beside the utility of the case picked at that step."""
    steps = []
    for number, (values, pick) in enumerate(zip(utilities, requested, strict=False), 1):
        if case not in values:
            break
        known = np.array(list(values.values()))
        steps.append(
            {
                "step": number,
                "utility": values[case],
                "rank": int((known > values[case]).sum()) + 1,
                "of": len(known),
                "picked": pick,
                "utility_of_pick": values.get(pick),
            }
        )
    return steps


def _entry(name: str, column: pd.Series, case: str, requested: tuple[str, ...]) -> dict[str, Any]:
    """The case's value in a column, its rank (1 is the highest; none if most share the value), and the mean over the chosen cases."""
    chosen = column.reindex(list(requested)).dropna()
    return {
        "name": name,
        "meaning": meaning(name),
        "value": _number(column[case]),
        "rank": None if name in _UNRANKED or _shared(column, case) else _rank(column, case),
        "of": int(column.notna().sum()),
        "chosen_mean": _number(chosen.mean()) if len(chosen) and name not in _UNRANKED else None,
    }


def _rank(column: pd.Series, case: str) -> int | None:
    return int((column > column[case]).sum()) + 1 if pd.notna(column[case]) else None


def _shared(column: pd.Series, case: str) -> bool:
    """Whether most of several candidates have the case's value, so that its rank says nothing."""
    known = int(column.notna().sum())
    return known > 1 and 2 * int((column == column[case]).sum()) > known


def _never_drawn(query: Query, case: str) -> bool:
    """Whether the query could draw exactly the cases in which something is predicted, and not this one."""
    scores = query.scores
    if not query.drawn or not {PROBABILITY, "foreground_voxels"} <= set(scores.columns):
        return False
    never, nothing = scores[PROBABILITY] == 0, scores["foreground_voxels"] == 0
    return bool(never[case] and (never == nothing).all())


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
