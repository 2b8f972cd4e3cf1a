"""The first screen of the page: where the campaign stands and what comes next."""

from __future__ import annotations

from typing import Any

from nnunet_active.rounds.next_step import next_step
from nnunet_active.util.errors import ActiveError
from nnunet_active.workspace import Workspace

TITLES = {
    "select": "Ask for the next cases",
    "annotate": "Write the hand-off folder for the annotator",
    "label": "Label the waiting cases",
    "ingest": "Take the finished labels back",
    "preprocess": "Preprocess new scans",
    "train": "Train",
    "wait": "A training is under way",
    "done": "Nothing is left to do",
}


def standing(workspace: Workspace, answered: bool = False) -> dict[str, Any]:
    """Counts, the budget bar, warnings, and the next step with its command.

    Args:
        workspace: the data set, with its campaign.
        answered: whether the page already says how good the adapted model is on unseen cases, or that it is the source.

    Returns:
        ``labelled``, ``slices`` (labelled slices, if slices are asked for), ``initial``, ``held_out``, ``waiting``, ``declined``,
        ``rounds``, ``budget``, ``asked``, ``unit`` (what the last two count); ``bar`` (name, count, share in percent); ``step`` (title,
        why, command, also); ``warnings``.
    """
    campaign = workspace.campaign
    waiting, declined = campaign.waiting(), campaign.declined
    asked = [case for case in campaign.requested() if case not in declined]
    back = len(asked) - len(waiting)
    open_requests, left = len(waiting), max(0, campaign.budget - len(asked))
    if campaign.asks_for_slices:
        back = sum(len(one.slices) for one in campaign.known_slices().values())
        open_requests, left = campaign.spent() - back, campaign.budget_left()
    parts = [("labelled on request", back), ("waiting for a label", open_requests), ("left in the budget", left)]
    total = max(1, sum(count for _, count in parts))
    warnings = []
    if not campaign.held_out() and not answered:
        warnings.append(
            "No labelled case is held out, so no validation can tell how good the adapted network is on new cases."
        )
    return {
        "labelled": len(campaign.labelled()),
        "slices": campaign.labels_known() if campaign.asks_for_slices else 0,
        "initial": campaign.labelled_from_start,
        "held_out": len(campaign.held_out()),
        "waiting": waiting,
        "declined": declined,
        "rounds": len(campaign.rounds),
        "budget": campaign.budget,
        "asked": campaign.spent() if campaign.asks_for_slices else len(asked),
        "unit": campaign.unit,
        "bar": [(name, count, round(100 * count / total, 2)) for name, count in parts],
        "step": _step(workspace),
        "warnings": warnings,
    }


def _step(workspace: Workspace) -> dict[str, Any]:
    try:
        step = next_step(workspace)
    except (ActiveError, OSError) as error:
        return {"title": "The next step is not known", "why": [str(error)], "command": "", "also": []}
    # leave out its first sentence, which repeats the page's own counts
    return {
        "title": TITLES.get(step.kind, step.kind),
        "why": [line.strip() for line in step.why[1:]],
        "command": step.command,
        "also": step.also,
    }
