"""Explains why a case was or was not chosen: in numbers for scripts and in words for people.

Everything comes from the records of the rounds. Nothing is computed anew, so the explanation matches the query.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.data.label_agreement import is_accepted
from nnunet_active.query.query_tables import open_first_words
from nnunet_active.rounds.round_table import Query
from nnunet_active.rounds.score_words import NAMES_ONLY, SCORES, SLICE_RULES_IN_WORDS, meaning
from nnunet_active.util.errors import MissingInput

_NOTICEABLE = 0.1  # a smaller relative fall of the utility is not worth a sentence
_CLEAR = 0.2  # with a smaller rank correlation with the utility, a factor counts neither for nor against a case

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


def format_explanation(content: Mapping[str, Any]) -> str:
    """The content of :func:`explain_case` in words."""
    lines = [content["status"]]
    for entry in content["rounds"]:
        lines += ["", *choice_lines(content["case"], entry)]
    if content["label"]:
        lines += ["", *_label_lines(content["label"])]
    return "\n".join(lines)


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
    case ranks from the middle of the candidates.
    """
    pulls = {}
    for column in query.components():
        values, name = query.scores[column], column.removeprefix("component_")
        if name in NAMES_ONLY or values.nunique() < 2 or pd.isna(values[case]):
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
    """The case's value in a column, its rank (1 is the highest), and the mean over the chosen cases."""
    chosen = column.reindex(list(requested)).dropna()
    return {
        "name": name,
        "meaning": meaning(name),
        "value": _number(column[case]),
        "rank": None if name in NAMES_ONLY else _rank(column, case),
        "of": int(column.notna().sum()),
        "chosen_mean": _number(chosen.mean()) if len(chosen) and name not in NAMES_ONLY else None,
    }


def _rank(column: pd.Series, case: str) -> int | None:
    return int((column > column[case]).sum()) + 1 if pd.notna(column[case]) else None


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def choice_lines(case: str, entry: Mapping[str, Any]) -> list[str]:
    """The result of :func:`explain_choice` for one query, in words."""
    if "set_aside" in entry:
        return [f"Round {entry['round']}: {entry['set_aside']}"]
    head = f"Round {entry['round']}, strategy '{entry['strategy']}', {entry['candidates']} candidates: "
    ranked = f": utility {_short(entry['utility'])}, {_place(entry['utility_rank'], entry['candidates'])}"
    utility = "" if entry["drawn"] else ranked
    if entry["position"]:
        order = f"choice {entry['position']} of {entry['asked_for']}" if entry["asked_for"] > 1 else "the only choice"
        lines = [f"{head}{case} was chosen ({order}){utility}."]
        if entry["must_include"]:
            lines.append("  It was included because the user asked for it.")
    else:
        lines = [f"{head}{case} was not chosen{utility}."]
    lines += [*_step_lines(entry), *_reason_lines(entry)]
    for title, name in (("What the strategy looked at", "factors"), ("What the network said", "scores")):
        if entry[name]:
            lines.append(f"  {title}:")
            lines += [_factor_line(factor, entry["position"] is None) for factor in entry[name]]
    if entry.get("slices"):
        lines += _slice_lines(entry["slices"])
    if entry["open_first"]:
        lines.append(f"  {open_first_words(entry['open_first'])}")
    return lines + [f"  Note: {note}" for note in entry["notes"]]


def _slice_lines(choice: Mapping[str, Any]) -> list[str]:
    """The requested slices and what was predicted in them; slices are counted from 1."""
    extent = choice["extent"]
    where = (
        f"the prediction with one slice more at each end: {extent[0] + 1} to {extent[1] + 1}"
        if extent
        else "nothing is predicted"
    )
    lines = [f"  {SLICE_RULES_IN_WORDS[choice['rule']]}"]
    lines += [f"  Slices along {choice['axis']} ({choice['rule']}; {where}, of {choice['of']}):"]
    for index, voxels, hard in zip(choice["slices"], choice["foreground"], choice["difficulty"], strict=True):
        lines.append(f"    {index + 1}: {voxels:g} predicted foreground voxels, difficulty {hard:.3g} nats")
    return lines


def _step_lines(entry: Mapping[str, Any]) -> list[str]:
    steps, chance = entry["steps"], entry["chance"]
    if entry["drawn"]:
        return ["  Chance decides: the cases are drawn."]
    lines = ["  Chance decides: the utility holds a random number."] if chance else []
    for before, after in pairwise(steps):
        if not chance and after["utility"] < before["utility"] - _NOTICEABLE * abs(before["utility"]):
            lines.append(
                f"  After {before['picked']} was chosen its utility fell from {_short(before['utility'])} to "
                f"{_short(after['utility'])}: part of what it could teach is covered."
            )
    if entry["position"] is None and steps and steps[-1]["utility_of_pick"] is not None:
        at, pick, its = (steps[-1][name] for name in ("utility", "picked", "utility_of_pick"))
        lines.append(f"  At the last choice it had {_short(at)}; {pick}, which was taken, had {_short(its)}.")
    return lines


def _reason_lines(entry: Mapping[str, Any]) -> list[str]:
    factors = {factor["name"]: factor for factor in entry["factors"]}
    said = []
    for key, words in (("for", "Most for it"), ("against", "most against it")):
        name = entry["for_and_against"][key]
        if name is not None:
            place = _place(factors[name]["rank"], factors[name]["of"])
            said.append(f"{words}: {factors[name]['meaning'] or name} ({name}, {place})")
    text = "; ".join(said)
    return [f"  {text[0].upper()}{text[1:]}."] if text else []


def _factor_line(factor: Mapping[str, Any], compare: bool) -> str:
    words = f": {factor['meaning']}" if factor["meaning"] else ""
    if factor["value"] is None:
        return f"    {factor['name']} not known{words}"
    place = f" ({_place(factor['rank'], factor['of'])})" if factor["rank"] else ""
    chosen = (
        f"; the chosen ones {_short(factor['chosen_mean'])}" if compare and factor["chosen_mean"] is not None else ""
    )
    return f"    {factor['name']} {_short(factor['value'])}{place}{chosen}{words}"


def _place(rank: int | None, of: int) -> str:
    if rank is None:
        return "not known"
    if rank == 1:
        return f"the highest of {of}" if of > 1 else "the only one"
    return f"the lowest of {of}" if rank == of else f"rank {rank} of {of}"


def _label_lines(label: Mapping[str, Any]) -> list[str]:
    dice = {name: value for name, value in (label.get("dice") or {}).items() if value is not None}
    if is_accepted(label):
        return ["The prediction was accepted as it is, so that its Dice says nothing about the network."]
    if not dice:
        return []
    agreement = ", ".join(f"{name} {value:.2f}" for name, value in dice.items())
    return [f"The label that came back agrees with the prediction to Dice {agreement}."]


def _short(value: float | None) -> str:
    return "not known" if value is None else f"{value:.4g}"
