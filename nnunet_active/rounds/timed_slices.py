r"""Plans how many slices of how many scans make the best use of an expert's time, and how long a round of slices takes.

Slices of one scan are partly redundant. Two-stage sampling (Kish, Survey Sampling, 1965; Cochran, Sampling Techniques, 1977) counts k
units of one cluster with correlation rho as k / (1 + (k - 1) rho) independent units. Of all ways to spend the time, the plan takes
the one with the largest sum over the scans. It has about sqrt(opening / per_slice * (1 - rho) / rho) slices per scan: one if opening
a scan costs nothing, and more the longer opening takes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nnunet_active.query.selector import Proposal
from nnunet_active.query.slice_query import SliceQuery
from nnunet_active.rounds.time_budget import SliceMinutes
from nnunet_active.util.errors import EmptyPool

ALIKE = 0.25
"""rho, the redundancy of slices of one scan: 0 for none, 1 if all teach the same. From our first comparison on hearts: three whole
scans of about nine slices taught as much as a third of these slices, spread over as many scans: 27 / (1 + 8 rho) = 9."""


@dataclass(frozen=True)
class TimePlan:
    """How to spend a given time.

    Attributes:
        scans: number of scans to open.
        slices: total number of slices to ask for.
    """

    scans: int
    slices: int


def worth(slices: int, alike: float = ALIKE) -> float:
    """The number of slices from different scans that are worth as much as ``slices`` of one scan.

    >>> worth(1), worth(9)
    (1.0, 3.0)
    """
    return slices / (1 + (slices - 1) * alike) if slices else 0.0


def plan_time(
    available: float, time: SliceMinutes, limits: Sequence[int], least: int = 1, most: int | None = None
) -> TimePlan | None:
    """The best use of the time; among equally good plans, the one with the most scans.

    Args:
        available: total minutes.
        time: minutes per scan and slice.
        limits: maximum number of slices of each scan, in the order in which scans are opened.
        least: minimum number of scans.
        most: maximum number of slices; None for no limit.

    Returns:
        The plan; None if the time is too short for ``least`` scans with one slice each.

    >>> plan_time(20, SliceMinutes(0, 1), [3] * 40)
    TimePlan(scans=20, slices=20)
    >>> plan_time(20, SliceMinutes(10, 1), [9] * 40)
    TimePlan(scans=1, slices=9)
    """
    best, best_value = None, -math.inf
    for scans in range(max(1, least), len(limits) + 1):
        # floating-point error must not cost a slice, as in 0.1 * 30 = 3.0000000000000004
        slices = math.floor((available - scans * time.opening) / time.per_slice + 1e-9)
        slices = min([slices, sum(limits[:scans]), *([] if most is None else [most])])
        if slices < scans:
            break
        value = _worth_of(slices, limits[:scans])
        if value >= best_value - 1e-9:
            best, best_value = TimePlan(scans, slices), value
    return best


def _worth_of(slices: int, limits: Sequence[int]) -> float:
    """The worth of slices that are spread evenly over the scans, as far as the limits allow."""
    total, left = 0.0, slices
    for scans, limit in zip(range(len(limits), 0, -1), sorted(limits), strict=True):
        share = min(limit, left // scans)
        total, left = total + worth(share), left - share
    return total


def plan_slices(
    query: SliceQuery,
    candidates: Sequence[str],
    time: SliceMinutes,
    available: float,
    must: Sequence[str] = (),
    most: int | None = None,
) -> TimePlan:
    """:func:`plan_time` for the scans of a campaign.

    Args:
        query: knows which slices may be asked for.
        candidates: scans that may be asked for.
        time: minutes per scan and slice.
        available: total minutes.
        must: scans that are opened whether they fit or not.
        most: maximum number of slices.

    Raises:
        EmptyPool: no slice is left, or not a single one fits.
    """
    per_case = query.campaign.settings.per_case
    limits = {case: min(query.open_slices(case), per_case) for case in candidates}
    order = dict.fromkeys([*must, *(case for case in candidates if not query.is_begun(case)), *candidates])
    plan = plan_time(available, time, [limits[case] for case in order if limits[case]], len(must), most)
    if plan is None and must:
        return TimePlan(len(must), len(must))
    if not any(limits.values()):
        raise EmptyPool("No unlabelled slice is left to ask for.")
    if plan is None:
        raise EmptyPool(
            f"No slice fits into {available:g} minutes: the first takes {time.minutes(1):g}; give --time-budget more."
        )
    return plan


def add_slice_minutes(proposal: Proposal, time: SliceMinutes, available: float | None = None) -> Proposal:
    """The proposal with the column ``minutes`` for its picks, and the time of the round.

    Args:
        proposal: a proposal of slices.
        time: minutes per scan and slice.
        available: total minutes to fill; None if the number of slices was named instead.
    """
    table, worklist, details = proposal.table.copy(), proposal.worklist.copy(), dict(proposal.details)
    table["minutes"] = np.nan
    for case, request in proposal.slices.items():
        table.loc[case, "minutes"] = time.minutes(len(request.slices))
    worklist["minutes"] = [table.loc[case, "minutes"] for case in worklist["case"]]
    details["slice_minutes"] = {"opening": time.opening, "per_slice": time.per_slice}
    if available is not None:
        details["time_budget"] = available
        used = f"{table['minutes'].sum():.0f} of {available:g} minutes (expected)"
        scans, slices = len(proposal.slices), proposal.units
        details["notes"] = [f"{slices} slices of {scans} cases fill {used}.", *details["notes"]]
    return replace(proposal, table=table, worklist=worklist, details=details)
