"""Label maps with only some slices labelled; nnU-Net's ignore value is everywhere else. Pure functions on arrays.

Arrays are (Z, Y, X) integers in file order; an axis is an array axis (0, 1, 2). A slice counts as labelled as soon as one of
its voxels is, because an annotator may ignore part of a slice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SliceCheck:
    """What an annotator did with the requested slices.

    Attributes:
        touched: requested, and changed since they were handed over.
        untouched: requested, and exactly as they were handed over.
        absent: requested, and the ignore value everywhere.
        empty: requested, and without foreground: background, if that is meant.
        drawn: not requested, not labelled before, and with foreground.
    """

    touched: tuple[int, ...]
    untouched: tuple[int, ...]
    absent: tuple[int, ...]
    empty: tuple[int, ...]
    drawn: tuple[int, ...]

    def to_take(self, accepted: bool) -> tuple[int, ...]:
        """The slices that count as labelled: all touched and untouched ones if any is touched or somebody accepted them, else none."""
        return (*self.touched, *self.untouched) if self.touched or accepted else ()


@dataclass(frozen=True)
class Merged:
    """A label with the returned slices merged in.

    Attributes:
        label: the ignore value outside of labelled slices.
        taken: slices that are labelled now and were not before.
        corrected: slices that were labelled before and differ now.
        kept: slices that had foreground before and came back without; the earlier label stays.
        outdated: slices that came back as handed over, or as the time before, but were corrected since; the correction stays.
    """

    label: np.ndarray
    taken: tuple[int, ...]
    corrected: tuple[int, ...]
    kept: tuple[int, ...]
    outdated: tuple[int, ...]


def keep_slices(label: np.ndarray, axis: int, slices: Iterable[int], ignore: int) -> np.ndarray:
    """A copy with the ignore value outside of some slices.

    >>> keep_slices(np.array([[[1, 0]], [[1, 1]]]), 0, [0], 2).tolist()
    [[[1, 0]], [[2, 2]]]
    """
    found = np.full(label.shape, ignore, dtype=_wide_enough(label.dtype, ignore))
    where = [slice(None)] * label.ndim
    where[axis] = sorted(set(slices))
    found[tuple(where)] = label[tuple(where)]
    return found


def forget_background(
    label: np.ndarray, axis: int, slices: Iterable[int], ignore: int, handed_over: np.ndarray | None = None
) -> np.ndarray:
    """A copy with the ignore value in all other slices without foreground, because nobody was asked to look there.

    Programs that do not know the ignore value write 0 for it. A slice in which something was drawn stays unchanged. But if the
    annotator began with the ignore value in part of a slice, and the whole file has none left, it is restored.

    Args:
        label: what came back.
        axis: the axis of the requested slices.
        slices: slices in which background may be meant.
        ignore: the ignore value.
        handed_over: what the annotator began with; None if not known.

    >>> forget_background(np.array([[[1, 0]], [[0, 0]], [[0, 2]], [[0, 3]]]), 0, [0], 3).tolist()
    [[[1, 0]], [[3, 3]], [[0, 2]], [[3, 3]]]
    """
    found = label.astype(_wide_enough(label.dtype, ignore))
    others = np.ones(label.shape[axis], dtype=bool)
    others[[index for index in slices if index < len(others)]] = False
    others[_slices_with((label != 0) & (label != ignore), axis)] = False
    found[(slice(None),) * axis + (others,)] = ignore
    if handed_over is not None and not is_partial(label, ignore):
        lost = (handed_over == ignore) & (label == 0)
        # an annotator who drew in a slice that was not labelled at all saw the whole slice
        drawn = set(_slices_with(label != 0, axis)) - set(labelled_slices(handed_over, axis, ignore))
        lost[(slice(None),) * axis + (sorted(drawn),)] = False
        found[lost] = ignore
    return found


def labelled_slices(label: np.ndarray, axis: int, ignore: int | None) -> list[int]:
    """The slices in which at least one voxel is not the ignore value."""
    if ignore is None:
        return list(range(label.shape[axis]))
    return _slices_with(label != ignore, axis)


def is_part_of(label: np.ndarray, other: np.ndarray, ignore: int) -> bool:
    """Whether ``other`` agrees with ``label`` everywhere that ``label`` is labelled.

    >>> is_part_of(np.array([1, 2]), np.array([1, 0]), 2), is_part_of(np.array([1, 0]), np.array([1, 2]), 2)
    (True, False)
    """
    return bool(((label == ignore) | (label == other)).all())


def is_partial(label: np.ndarray, ignore: int | None) -> bool:
    """Whether any voxel has the ignore value."""
    return ignore is not None and bool((label == ignore).any())


def check_slices(
    returned: np.ndarray,
    handed_over: np.ndarray | None,
    axis: int,
    asked: Iterable[int],
    ignore: int,
    before: np.ndarray | None = None,
) -> SliceCheck:
    """Sort the requested slices by what the annotator did with them.

    Args:
        returned: the annotator's label.
        handed_over: what the annotator began with; if None (not known), every slice counts as touched.
        axis: the axis of the requested slices.
        asked: the requested slices.
        ignore: the ignore value.
        before: the label before; None if there was none.
    """
    asked = sorted(set(asked))
    drawn = set(_slices_with((returned != 0) & (returned != ignore), axis)) - set(asked)
    if before is not None:
        drawn -= set(labelled_slices(before, axis, ignore))
    groups: dict[str, list[int]] = {"touched": [], "untouched": [], "absent": [], "empty": []}
    for index in asked:
        voxels = returned.take(index, axis)
        if (voxels == ignore).all():
            groups["absent"].append(index)
            continue
        same = handed_over is not None and np.array_equal(voxels, handed_over.take(index, axis))
        groups["untouched" if same else "touched"].append(index)
        if not _has_foreground(voxels, ignore):
            groups["empty"].append(index)
    return SliceCheck(**{name: tuple(found) for name, found in groups.items()}, drawn=tuple(sorted(drawn)))


def merge_slices(
    before: np.ndarray | None,
    returned: np.ndarray,
    axis: int,
    take: Iterable[int],
    ignore: int,
    handed_over: np.ndarray | None = None,
    repeated: Iterable[int] = (),
) -> Merged:
    """Merge returned slices into the label so far. No labelled voxel becomes the ignore value.

    A slice that was labelled before and differs now is a correction, with two exceptions outside of ``take``. Either it comes back
    without foreground although it had some: a program that lost the foreground and a person who erased it look the same. Or it is
    as handed over, or as the same file had it before: nobody changed it, but the label may have been corrected since.

    Args:
        before: the label so far; None if nothing is labelled.
        returned: the annotator's label; may hold anything outside of the slices that count.
        axis: the axis of the requested slices.
        take: slices to take: the requested ones, and any others that are welcome.
        ignore: the ignore value.
        handed_over: what the annotator began with; if None (not known), every difference from the label so far counts.
        repeated: slices that the same file already had like this.

    Raises:
        ValueError: the shapes differ.
    """
    if before is not None and before.shape != returned.shape:
        raise ValueError(f"a label of shape {returned.shape} cannot be merged with one of shape {before.shape}")
    take, repeated = sorted(set(take)), set(repeated)
    kind = _wide_enough(np.promote_types(returned.dtype, returned.dtype if before is None else before.dtype), ignore)
    merged = np.full(returned.shape, ignore, dtype=kind) if before is None else before.astype(kind)
    earlier = set() if before is None else set(labelled_slices(before, axis, ignore))
    taken, corrected, kept, outdated = [], [], [], []
    for index in sorted({*earlier, *take}):
        where = (slice(None),) * axis + (index,)
        old, new = merged[where], returned[where]
        said = new != ignore
        if index in earlier and index not in take:
            if not said.any():  # not returned
                continue
            if index in repeated or (handed_over is not None and np.array_equal(new, handed_over[where])):
                if not np.array_equal(np.where(said, new, old), old):
                    outdated.append(index)
                continue
            if _has_foreground(old, ignore) and not _has_foreground(new, ignore):
                kept.append(index)
                continue
        result = np.where(said, new, old)
        if index in earlier:
            if not np.array_equal(result, old):
                corrected.append(index)
        elif said.any():
            taken.append(index)
        merged[where] = result
    return Merged(merged, *map(tuple, (taken, corrected, kept, outdated)))


def _has_foreground(label: np.ndarray, ignore: int) -> bool:
    return bool(((label != 0) & (label != ignore)).any())


def _slices_with(mask: np.ndarray, axis: int) -> list[int]:
    others = tuple(one for one in range(mask.ndim) if one != axis)
    return [int(index) for index in np.flatnonzero(mask.any(axis=others))]


def _wide_enough(kind: np.dtype, value: int) -> np.dtype:
    return np.promote_types(kind, np.min_scalar_type(value))
