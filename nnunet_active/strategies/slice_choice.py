r"""Which slices of a scan to ask for. All of it is our choice; the first rule is the default.

The extent is the predicted slices plus one at each end. To choose k slices when t slices of the extent were asked for before, it is
cut into k + t strata of equal length. At least k of them hold no earlier slice; k of these, evenly spaced, give one slice each:

* ``spread``: the most difficult slice; difficulty d comes from :mod:`nnunet_active.scoring.slice_sums` and is shrunk towards the
  mean m of the scan's slices where little is predicted: (a d + n0 m) / (a + n0), with a foreground voxels and n0 = ``SUPPORT``, as
  in ASD
* ``centre``: the middle slice
* ``random``: no strata; slices are drawn with weights equal to their predicted foreground

If nothing is predicted, the whole scan is the extent. If the extent has too few free slices, those next to it follow.

Few slices of many scans teach more than many slices of few (arXiv 2412.08081): if there are slices for all scans, every scan gets some.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

RULES = ("spread", "centre", "random")
SUPPORT = 100.0
"""n0, in voxels: the same as for ASD (``benchmarks/results/asd.csv``)."""


def scans_for(count: int, free: Sequence[int], per_case: int) -> int:
    """How many scans share ``count`` slices: all if there is a slice for each, else the fewest that always suffice, whichever they are.

    Args:
        count: slices in all.
        free: how many slices of each scan may still be asked for.
        per_case: the most slices of one scan.

    >>> scans_for(30, [20] * 15, 3), scans_for(30, [20] * 96, 3), scans_for(30, [20] * 93 + [2] * 3, 3)
    (15, 10, 11)
    """
    if count >= len(free):
        return len(free)
    held = np.cumsum(sorted(min(most, per_case) for most in free))
    return min(int(np.searchsorted(held, count)) + 1, len(free))


def share_out(count: int, free: Sequence[int], per_case: int) -> list[int]:
    """How many slices each scan gives. Scans take turns in order of preference until all slices are shared out.

    Args:
        count: slices in all; fewer are shared out if ``free`` and ``per_case`` allow no more.
        free: how many slices of each scan may still be asked for, the preferred scan first.
        per_case: the most slices of one scan.

    >>> share_out(7, [10, 1, 10], 3)
    [3, 1, 3]
    >>> share_out(4, [10, 10, 10], 3)
    [2, 1, 1]
    """
    shares = [0] * len(free)
    for _ in range(per_case):
        for index, most in enumerate(free):
            if shares[index] < min(most, per_case) and sum(shares) < count:
                shares[index] += 1
    return shares


def steady_difficulty(foreground: np.ndarray, difficulty: np.ndarray, support: float = SUPPORT) -> np.ndarray:
    """The difficulty of every slice, (n,), shrunk towards the mean of the slices with predicted foreground.

    >>> steady_difficulty(np.array([0, 100, 300]), np.array([0.0, 0.2, 0.6])).round(3).tolist()
    [0.4, 0.3, 0.55]
    """
    foreground, difficulty = np.asarray(foreground, dtype=np.float64), np.asarray(difficulty, dtype=np.float64)
    predicted = foreground > 0
    mean = difficulty[predicted].mean() if predicted.any() else 0.0
    return (foreground * difficulty + support * mean) / (foreground + support)


def choose_slices(
    foreground: np.ndarray,
    difficulty: np.ndarray,
    count: int,
    taken: Iterable[int] = (),
    rule: str = RULES[0],
    rng: np.random.Generator | None = None,
) -> list[int]:
    """Choose slices of one scan.

    Args:
        foreground: (n,) predicted foreground voxels of every slice.
        difficulty: (n,) mean difficulty of every slice, in nats.
        count: how many; fewer come back if the scan has fewer free slices.
        taken: slices asked for before or already labelled; never chosen.
        rule: ``spread``, ``centre`` or ``random``.
        rng: for ``random``.

    Returns:
        Slices in ascending order, counted from 0.

    Raises:
        ValueError: an unknown rule, or ``random`` without a generator.
    """
    if rule not in RULES:
        raise ValueError(f"the rule is '{rule}'; it must be one of {', '.join(RULES)}")
    foreground = np.asarray(foreground, dtype=np.float64)
    n = len(foreground)
    taken = {int(index) for index in taken if 0 <= int(index) < n}
    count = min(count, n - len(taken))
    if count <= 0:
        return []
    first, last = extent(foreground)
    if rule == "random":
        if rng is None:
            raise ValueError("the rule 'random' needs a generator")
        chosen = _drawn(foreground, first, last, count, taken, rng)
    else:
        steady = steady_difficulty(foreground, difficulty)
        chosen = [_of_stratum(one, steady, rule) for one in _open_strata(first, last, count, taken)]
    return sorted([*chosen, *_nearest(first, last, n, count - len(chosen), {*taken, *chosen})])


def extent(foreground: np.ndarray) -> tuple[int, int]:
    """First and last slice of the prediction plus one slice at each end; the whole scan if nothing is predicted.

    >>> extent(np.array([0, 0, 0, 5, 2, 0, 0]))
    (2, 5)
    """
    filled = np.flatnonzero(np.asarray(foreground) > 0)
    n = len(foreground)
    return (max(0, int(filled[0]) - 1), min(n - 1, int(filled[-1]) + 1)) if len(filled) else (0, n - 1)


def _open_strata(first: int, last: int, count: int, taken: set[int]) -> list[np.ndarray]:
    """Evenly spaced strata, ``count`` of those without an earlier slice (all, if there are fewer)."""
    inside = np.arange(first, last + 1)
    strata = np.array_split(inside, count + len(taken & set(inside.tolist())))
    strata = [one for one in strata if len(one) and not taken & set(one.tolist())]
    if len(strata) <= count:
        return strata
    middles = (np.arange(count) + 0.5) * len(strata) / count
    return [strata[int(middle)] for middle in middles]


def _of_stratum(slices: np.ndarray, difficulty: np.ndarray, rule: str) -> int:
    middle = (slices[0] + slices[-1]) / 2
    from_middle = np.abs(slices - middle)
    hard = difficulty[slices] if rule == "spread" else np.zeros(len(slices))
    # among equally difficult slices, the one nearest the middle; differences at rounding level do not count
    best = np.flatnonzero(hard >= hard.max() - 1e-9 * max(1.0, abs(hard.max())))
    return int(slices[best[np.argmin(from_middle[best])]])


def _drawn(
    foreground: np.ndarray, first: int, last: int, count: int, taken: set[int], rng: np.random.Generator
) -> list[int]:
    free = np.array([index for index in range(first, last + 1) if index not in taken], dtype=int)
    weight = foreground[free]
    if not weight.any():
        weight = np.ones(len(free))
    number = min(count, int(np.count_nonzero(weight)))
    return [int(i) for i in rng.choice(free, number, replace=False, p=weight / weight.sum())] if number else []


def _nearest(first: int, last: int, n: int, count: int, taken: set[int]) -> list[int]:
    """Free slices: first those of the extent, then the nearest to it."""
    if count <= 0:
        return []
    free = [index for index in range(n) if index not in taken]
    return sorted(free, key=lambda index: (max(first - index, index - last, 0), index))[:count]
