"""Chooses as many cases as an expert has time for, in the strategy's order, by the expected minutes of each case."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from nnunet_active.data.cases import CaseStore
from nnunet_active.nnunet.window import Window
from nnunet_active.query.score_cache import ScoreCache
from nnunet_active.query.selector import Proposal
from nnunet_active.rounds.time_budget import AnnotationTime, count_objects
from nnunet_active.util.errors import EmptyPool

MOST_NAMED = 3
"""Most cases that a note names."""

Ask = Callable[[int, Sequence[str], Sequence[str]], Proposal]
"""Makes a proposal: number of cases, cases to include, cases to leave out."""


@dataclass(frozen=True)
class TooLong:
    """Minutes that a case needs, minutes that were left, and how many cases were taken by then. If not ``exact``, ``needed`` is a
    lower bound from the volume alone."""

    needed: float
    left: float
    taken: int
    exact: bool = True

    def __str__(self) -> str:
        return f"{self.needed:.0f} minutes{'' if self.exact else ' or more'}, {self.left:.0f} were left"


class CaseMinutes:
    """Expected minutes of cases, from the network's predictions. The number of objects is cached with the scores.

    Args:
        store: the preprocessed images.
        window: the network.
        cache: scores computed before.
        time: minutes per case, object and cm³.
    """

    def __init__(self, store: CaseStore, window: Window, cache: ScoreCache, time: AnnotationTime) -> None:
        self.store, self.window, self.cache, self.time = store, window, cache, time
        self._digest = window.digest

    def measure(self, case: str) -> tuple[int, float]:
        """Number of predicted objects and predicted foreground in cm³; needs one forward pass if they are not cached."""
        state = self.store.image_state(case)
        entry = self.cache.get(self._digest, case, state)
        if entry is None or not entry.scalars.keys() >= {"objects", "object_cm3"}:
            voxel = float(np.prod(self.store.spacing(case)))
            classes = self.window.predicted_classes(self.store.load_image(case))
            foreground = classes.any(axis=0) if classes.ndim == 4 else classes > 0
            found = {
                "objects": float(count_objects(classes, voxel)),
                "object_cm3": np.count_nonzero(foreground) * voxel / 1000.0,
            }
            self.cache.add(self._digest, case, state, found, {})
        else:
            found = entry.scalars
        return int(found["objects"]), float(found["object_cm3"])

    def minutes(self, case: str) -> float:
        """Expected minutes of a case."""
        return self.time.minutes(*self.measure(case))

    def at_least(self, cm3: float) -> float:
        """Lower bound of the minutes for a predicted volume, without any object; needs no further pass."""
        return self.time.minutes(0, cm3)


def add_minutes(proposal: Proposal, minutes: CaseMinutes) -> Proposal:
    """The proposal with the columns ``objects`` and ``minutes`` for its picks."""
    table, worklist = proposal.table.copy(), proposal.worklist.copy()
    for name in ("objects", "minutes"):
        table[name] = np.nan
    for case in proposal.picks:
        table.loc[case, "objects"] = minutes.measure(case)[0]
        table.loc[case, "minutes"] = minutes.minutes(case)
    for name in ("objects", "minutes"):
        worklist[name] = [table.loc[case, name] for case in worklist["case"]]
    return replace(proposal, table=table, worklist=worklist)


def choose_in_time(
    ask: Ask, minutes: CaseMinutes, available: float, most: int | None = None, must_include: Sequence[str] = ()
) -> Proposal:
    """Fill the time greedily: repeatedly take the strategy's favourite that still fits, given the cases already taken.

    Args:
        ask: makes a proposal.
        minutes: gives the minutes of each case.
        available: total minutes.
        most: maximum number of cases; None for no limit.
        must_include: cases taken first, whether they fit or not.

    Returns:
        A proposal of exactly the cases taken, with their minutes.

    Raises:
        EmptyPool: no case fits; the message says how long the favourite and the shortest case take.
    """
    must = list(dict.fromkeys(must_include))
    proposal = ask(max(1, len(must)), must, ())
    volumes = proposal.table.get("foreground_mm3", pd.Series(np.nan, proposal.table.index)) / 1000.0
    taken = list(must)
    left = available - sum(minutes.minutes(case) for case in taken)
    passed: set[str] = set()
    longer: dict[str, TooLong] = {}
    while most is None or len(taken) < most:
        too_long = {case for case, cm3 in volumes.items() if case not in taken and minutes.at_least(cm3) > left}
        longer |= {
            case: TooLong(minutes.at_least(volumes[case]), left, len(taken), exact=False) for case in too_long - passed
        }
        passed |= too_long
        if len(passed) + len(taken) == len(volumes):
            break
        try:
            favourite = ask(len(taken) + 1, taken, sorted(passed)).picks[-1]
        except EmptyPool:
            break
        needed = minutes.minutes(favourite)
        if needed <= left:
            taken.append(favourite)
            left -= needed
        else:
            passed.add(favourite)
            longer[favourite] = TooLong(needed, left, len(taken))
    if not taken:
        shortest = min(minutes.at_least(cm3) for cm3 in volumes)
        first = proposal.picks[0]
        raise EmptyPool(
            f"No case fits into {available:g} minutes: the shortest takes {shortest:.0f} or more; give --time-budget more "
            f"({minutes.minutes(first):.0f} for the favourite, {first})."
        )
    final = ask(len(taken), taken, ())
    used = available - left
    unasked = ", ".join(taken)
    notes = [note for note in final.details["notes"] if note != f"Included by the user: {unasked}."]
    notes.insert(0, f"{len(taken)} cases fill {used:.0f} of {available:g} minutes (expected).")
    notes[1:1] = _passed_over(list(volumes.index), taken, longer, available)
    if must:
        notes.insert(1, f"Included by the user: {', '.join(must)}.")
    details = {**final.details, "must_include": must, "notes": notes, "time_budget": available}
    return add_minutes(replace(final, details=details), minutes)


def _passed_over(ranked: list[str], taken: list[str], longer: dict[str, TooLong], available: float) -> list[str]:
    """A note on favourites that were too long for the time left while shorter cases still fitted, and how much time would be enough.

    Args:
        ranked: the candidates, favourite first.
        taken: the cases that are asked for.
        longer: the cases that were too long.
        available: total minutes.
    """
    last = max(ranked.index(case) for case in taken)
    favourites = [case for case in ranked[:last] if case in longer and longer[case].taken < len(taken)][:MOST_NAMED]
    if not favourites:
        return []
    named = ", ".join(f"{case} ({longer[case]})" for case in favourites)
    first = longer[favourites[0]]
    enough = math.ceil(available - first.left + first.needed)
    room = "has room for" if first.exact else "or more has room for"
    return [f"Passed over, since too long: {named}; --time-budget {enough} {room} {favourites[0]}."]
