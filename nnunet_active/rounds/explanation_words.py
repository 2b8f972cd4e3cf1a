"""Says in words why a case was or was not chosen."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from nnunet_active.data.label_agreement import is_accepted
from nnunet_active.query.query_tables import open_first_words
from nnunet_active.rounds.score_words import SLICE_RULES_IN_WORDS

_NOTICEABLE = 0.1  # a smaller relative fall of the utility is not worth a sentence


def format_explanation(content: Mapping[str, Any]) -> str:
    """The content of :func:`~nnunet_active.rounds.explanation.explain_case` in words."""
    lines = [content["status"]]
    for entry in content["rounds"]:
        lines += ["", *choice_lines(content["case"], entry)]
    if content["label"]:
        lines += ["", *_label_lines(content["label"])]
    return "\n".join(lines)


def choice_lines(case: str, entry: Mapping[str, Any]) -> list[str]:
    """The result of :func:`~nnunet_active.rounds.explanation.explain_choice` for one query, in words."""
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
    if entry["never_drawn"]:
        return ["  It cannot be drawn: nothing is predicted in it; --must-include asks for it."]
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
