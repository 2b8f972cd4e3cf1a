"""The table of a round's requested slices: what was predicted in each, and whether it is labelled now."""

from __future__ import annotations

from typing import Any

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.report.ranking import as_text
from nnunet_active.rounds.round_table import Query
from nnunet_active.rounds.score_words import SLICE_RULES_IN_WORDS


def slice_table(campaign: Campaign, query: Query) -> dict[str, Any]:
    """What the page shows about the slices of one round; empty if whole cases were asked for.

    Args:
        campaign: an opened campaign.
        query: the round.

    Returns:
        ``why`` (the rule in words) and ``rows``: case, slice (from 1) and axis, extent of the prediction, foreground, difficulty,
        state.
    """
    choice = query.selection.get("slice_choice", {})
    waiting, known = campaign.waiting_slices(), campaign.known_slices()
    rows = []
    for case in query.requested:
        facts = choice.get(case, {"slices": ()})
        for index, voxels, hard in zip(
            facts["slices"], facts.get("foreground", ()), facts.get("difficulty", ()), strict=True
        ):
            extent = facts["extent"]
            state = "labelled" if case in known and index in known[case].slices else campaign.status_of(case)
            state = "waiting" if case in waiting and index in waiting[case].slices else state
            rows.append(
                {
                    "case": case,
                    "slice": f"{index + 1} along {facts['axis']}",
                    "number": index + 1,
                    "extent": f"{extent[0] + 1} to {extent[1] + 1} of {facts['of']}" if extent else "nothing predicted",
                    "foreground": as_text(voxels),
                    "difficulty": as_text(hard),
                    "state": state,
                }
            )
    rules = dict.fromkeys(facts["rule"] for facts in choice.values())
    return {"why": " ".join(SLICE_RULES_IN_WORDS[rule] for rule in rules), "rows": rows}
