"""Shows one query as a ranked table of its candidates, for a recorded round and for a proposed one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from nnunet_active.campaign.campaign_round import Round, was_drawn
from nnunet_active.campaign.fine_tuning import GUARDED, MANY_MIXED, MIX, STANDS_FOR_THE_POOL
from nnunet_active.campaign.settings import UNITS
from nnunet_active.commands import DEFAULT_SIZE
from nnunet_active.query.query_tables import stands_out
from nnunet_active.rounds.time_budget import SliceMinutes

if TYPE_CHECKING:  # the selector imports PyTorch; showing a query needs no network
    from nnunet_active.campaign.campaign import Campaign
    from nnunet_active.query.selector import Proposal

NOISE = "component_noise"
"""The column of strategies that add noise to their utility."""

SHOWN = 10
"""Number of candidates in the table besides the chosen ones."""


@dataclass(frozen=True)
class Query:
    """A recorded or proposed query.

    Attributes:
        number: number of its round.
        made_by: ``training`` or ``select``.
        requested: the chosen cases in order.
        selection: content of ``selection.json``.
        scores: content of ``scores.csv``, one row per case: the chosen ones first, then by utility.
    """

    number: int
    made_by: str
    requested: tuple[str, ...]
    selection: Mapping[str, Any]
    scores: pd.DataFrame

    @classmethod
    def of_round(cls, one: Round) -> Query:
        """The query of a recorded round."""
        return cls(one.number, one.made_by, one.requested, one.selection(), one.scores())

    @classmethod
    def of_proposal(cls, proposal: Proposal) -> Query:
        """The query of a round that ``nnunet_active select`` would make."""
        steps = [
            {case: float(value) for case, value in row.items() if pd.notna(value)}
            for _, row in proposal.selection.utilities.iterrows()
        ]
        selection = {**proposal.details, "utilities": steps}
        return cls(proposal.number, "select", tuple(proposal.picks), selection, proposal.ranked)

    @property
    def drawn(self) -> bool:
        """Whether the cases were drawn; see :func:`~nnunet_active.campaign.campaign_round.was_drawn`."""
        return was_drawn(self.selection, self.scores)

    @property
    def chance(self) -> bool:
        """Whether the utility contains a random number; a lower utility at a later step then only means another draw."""
        return self.drawn or NOISE in self.scores

    def components(self) -> list[str]:
        """Columns of the strategy's factors."""
        return [name for name in self.scores.columns if name.startswith("component_")]


def format_query(query: Query, metric: bool = True, shown: int = SHOWN) -> str:
    """The chosen and the best other cases with the strategy's factors; also utility and rank, unless the strategy draws.

    Args:
        query: what is shown.
        metric: whether volumes in mm³ are meaningful; otherwise numbers of pixels are shown.
        shown: number of other cases.
    """
    scores = query.scores
    ranks = scores["utility"].rank(ascending=False, method="min").astype(int)
    others = [case for case in scores.index if case not in query.requested]
    others = sorted(others, key=lambda case: (-scores.loc[case, "utility"], case))[:shown]
    elections, slices = query.selection.get("dominant_modality", {}), query.selection.get("slice_choice", {})
    rows = []
    for case in [*query.requested, *others]:
        row = scores.loc[case]
        chosen = query.requested.index(case) + 1 if case in query.requested else ""
        cells = {"chosen": chosen, "case": case}
        if not query.drawn:
            cells |= {"utility": _short(row["utility"]), "rank": ranks[case]}
        cells |= {name.removeprefix("component_"): _short(row[name]) for name in query.components()}
        if "foreground_mm3" in scores and metric:
            cells["cm3"] = _short(row["foreground_mm3"] / 1000)
        if "foreground_voxels" in scores and not metric:
            cells["pixels"] = _short(row["foreground_voxels"])
        if "minutes" in scores:
            cells["minutes"] = "" if pd.isna(row["minutes"]) else f"{row['minutes']:.0f}"
        if slices:
            cells["slices"] = " ".join(str(index + 1) for index in slices.get(case, {}).get("slices", ()))
            cells["along"] = slices.get(case, {}).get("axis", "")
        cells["open first"] = elections[case]["name"] if stands_out(elections.get(case, {})) else ""
        rows.append(cells)
    left = len(scores) - len(rows)
    others_decide = query.selection.get("must_include") or query.selection.get("time_budget")
    ranked = [ranks[case] for case in query.requested] == sorted(ranks)[: len(query.requested)]
    lines = [
        f"Round {query.number}, strategy '{query.selection['strategy']}': {len(query.requested)} of {len(scores)} candidates.",
        pd.DataFrame(rows).to_string(index=False),
    ]
    if not (query.drawn or others_decide or ranked):
        later = "was drawn again" if query.chance else "took the earlier ones into account"
        lines.append(f"utility and rank are those before the first choice; each later choice {later}.")
    lines += [f"... and {left} more; all are in scores.csv of the round."] if left > 0 else []
    return "\n".join(lines + [f"Note: {note}" for note in query.selection.get("notes", ())])


def query_json(query: Query) -> dict[str, Any]:
    """The same for all candidates, in JSON types only."""
    ranks = query.scores["utility"].rank(ascending=False, method="min").astype(int)
    elections = query.selection.get("dominant_modality", {})
    candidates = []
    for case, row in query.scores.iterrows():
        numbers = {
            str(name).removeprefix("component_"): float(value)
            for name, value in row.items()
            if name not in ("utility", "picked") and np.isfinite(value)
        }
        candidates.append({"case": case, "rank": int(ranks[case]), "utility": float(row["utility"]), "scores": numbers})
    return {
        "round": query.number,
        "strategy": query.selection["strategy"],
        "requested": list(query.requested),
        **({"slices": query.selection["slice_choice"]} if "slice_choice" in query.selection else {}),
        "open_first": {case: elections[case]["name"] for case in query.requested if case in elections},
        "candidates": candidates,
        "expected_minutes": expected_minutes(query),
        "notes": list(query.selection.get("notes", ())),
        "set_aside": dict(query.selection.get("set_aside", {})),
    }


def expected_minutes(query: Query) -> str:
    """How long an expert will need for the round, in one sentence; empty if that is not known."""
    choice = query.selection.get("slice_choice")
    if choice:
        # a training's round does not record the minutes per case and slice: use our guess
        time = SliceMinutes(**query.selection.get("slice_minutes", {}))
        counts = [len(one["slices"]) for one in choice.values()]
        each = (
            f": {time.opening:g} {_for_each(len(counts), 'case')}, {time.per_slice:g} {_for_each(sum(counts), 'slice')}"
        )
        return f"Labelling will take about {sum(map(time.minutes, counts)):.0f} minutes{each}."
    minutes = (
        query.scores["minutes"].reindex(list(query.requested)) if "minutes" in query.scores else pd.Series(dtype=float)
    )
    return f"Labelling will take about {minutes.sum():.0f} minutes." if minutes.notna().any() else ""


def few_at_once(query: Query, campaign: Campaign) -> str:
    """That more whole scans at once gain more, where ``guarded`` has little to judge by in a small first query; else empty.

    Our reading of ``docs/measured.md``: with three scans one by one, the gate stays shut more often than with three at once, unless
    the network also learns from unlabelled cases.
    """
    settings = campaign.settings
    whole = settings.fine_tuning.get("interpolation") == GUARDED and settings.unit == UNITS[0]
    few = {*campaign.initial, *query.requested}
    mixed = settings.fine_tuning.get("unlabelled") == MIX
    if mixed and settings.strategy not in STANDS_FOR_THE_POOL:
        return ""  # what gained more was measured for requests drawn from the pool
    enough = MANY_MIXED if mixed else DEFAULT_SIZE
    if not whole or not few.issuperset(campaign.labelled()) or max(len(few), len(campaign.val)) >= enough:
        return ""
    also = "" if mixed else f", the recipe {GUARDED}:unlabelled={MIX} (which trains longer),"
    return (
        f"From {'one whole scan' if mixed else 'one or two whole scans'}, the recipe guarded does not go far from the source model. "
        f"{enough} at once (-n {enough}){also} or slices of many scans (--unit slice) gained more."
    )


def _for_each(number: int, what: str) -> str:
    return f"for the {what}" if number == 1 else f"for each of {number} {what}s"


def _short(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.4g}"
