"""Merges a returned label of slices into the label so far.

Requested slices count as labelled, and an empty one as background. If only some of them were changed, the file may have been saved
half-way, so it is taken once the others were changed or accepted. Corrections of earlier slices are taken, too. Slices drawn elsewhere
are taken only if the user asks for it, or if they lie in ``labelsTr`` itself. No label is ever lost: neither the label that was
preprocessed last, nor what has come into ``labelsTr`` since.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from nnunet_active.annotation.records import voxel_digest
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.campaign.slices_at_start import slices_of_label
from nnunet_active.data.label_reader import read_label
from nnunet_active.data.partial_labels import Merged, SliceCheck, check_slices, labelled_slices, merge_slices
from nnunet_active.data.slice_map import NUMPY_AXIS
from nnunet_active.returned.finished_label import FinishedLabel
from nnunet_active.returned.handed_out import given_label, half_done
from nnunet_active.returned.label_finder import LabelFinder
from nnunet_active.util.errors import BadCase


def merge_returned(finder: LabelFinder, case: str, label: FinishedLabel) -> FinishedLabel:
    """The merged label of a case; if no slices of it were asked for, the returned label itself.

    Args:
        finder: knows the campaign, the prediction, the label so far, and whether to take slices that nobody asked for; its report
            gets notes about unusual slices.
        case: identifier.
        label: the returned label.

    Raises:
        BadCase: nothing was done in the requested slices, or only in some of them; the sentence names them.
    """
    known = finder.slices_of(case, label.file)
    if known is None and finder.campaign.asks_for_slices:
        axis = finder.campaign.settings.axis
        return replace(label, slices=slices_of_label(finder.store, case, label.voxels, axis, finder.ignore))
    if known is None:
        return label
    axis, ignore = NUMPY_AXIS[known.axis], finder.ignore
    before, taken = _label_so_far(finder, case, label)
    wanted = tuple(index for index in _waiting(finder, case, label) if index not in taken)
    handed = finder.handed_over(case, label.file)
    found = check_slices(
        label.voxels, given_label(handed, finder.prediction(case), ignore), axis, wanted, ignore, before
    )
    accepted = case in finder.accept or label.accepted
    # a file in labelsTr counts in full
    in_use = finder.is_in_use(case, label.file)
    if not (accepted or in_use) and (said := half_done(case, known.axis, found)):
        raise BadCase(said)
    drawn = _welcome(finder, case, label, found)
    take = {*found.to_take(accepted), *drawn}
    repeated = () if in_use else finder.taken_before(case).repeated_slices(label.file, label.voxels, axis, ignore)
    merged = merge_slices(before, label.voxels, axis, take, ignore, handed, repeated)
    _say(finder, case, known.axis, found, merged, set(found.drawn) - drawn, bool(found.touched) or accepted)
    # compare with the campaign's record, not with the file: a killed run may have put the slices there already
    there, counted = set(labelled_slices(merged.label, axis, ignore)), finder.campaign.known_slices().get(case)
    new = (there if finder.also_drawn else there & (take | taken)) - set(counted.slices if counted else ())
    if not new and not merged.corrected and (before is None or wanted):
        verb = "was" if len(wanted) == 1 else "were"
        if found.absent and not found.untouched:
            raise BadCase(
                f"Case {case}: nothing is labelled in the {_words(wanted, known.axis)} that {verb} asked for, all of it has the ignore "
                f"value {ignore}; draw there, and give background the value 0."
            )
        raise BadCase(
            f"Case {case}: nothing was changed in the {_words(wanted, known.axis)} that {verb} asked for; if the prediction is right "
            f"there: --accept-unchanged {case}."
        )
    request = SliceRequest(known.axis, tuple(sorted(new))) if new else None
    voxels = np.ascontiguousarray(merged.label.astype(np.uint8 if merged.label.max(initial=0) < 256 else np.uint16))
    return replace(label, voxels=voxels, digest=voxel_digest(voxels), slices=request)


def _label_so_far(finder: LabelFinder, case: str, label: FinishedLabel) -> tuple[np.ndarray | None, set[int]]:
    """The label of a case without the returned file, or None; and its slices that came into ``labelsTr`` after the label was
    preprocessed and do not count yet."""
    used, laid = finder.used(case), finder.label_file(case)
    other_lies_there = laid.is_file() and not finder.is_in_use(case, label.file)
    is_new = other_lies_there and not finder.is_known(case, laid)
    so_far = used if used.is_file() else laid if other_lies_there and not is_new else None
    before = None
    if so_far is not None:
        image = finder.raw.cases[case].images[0]
        before = read_label(case, so_far, image, finder.dataset_json, finder.reader, finder.ending).voxels
    if not is_new:
        return before, set()
    try:
        other = FinishedLabel.of(finder.read(case, laid))
    except BadCase as error:  # the unreadable file is kept unchanged
        finder.report.warn(case, str(error))
        return before, set()
    axis = NUMPY_AXIS[finder.slices_of(case, laid).axis]
    found = check_slices(
        other.voxels, finder.prediction(case), axis, _waiting(finder, case, other), finder.ignore, before
    )
    take = {*found.to_take(False), *_welcome(finder, case, other, found)}
    merged = merge_slices(before, other.voxels, axis, take, finder.ignore).label
    return merged, take


def _waiting(finder: LabelFinder, case: str, label: FinishedLabel) -> tuple[int, ...]:
    """The waiting slices among those that a file may label."""
    waiting = finder.campaign.waiting_slices().get(case)
    asked = None if waiting is None else waiting.within(finder.slices_of(case, label.file))
    return () if asked is None else asked.slices


def _welcome(finder: LabelFinder, case: str, label: FinishedLabel, found: SliceCheck) -> set[int]:
    """The drawn slices to take although nobody asked for them; in ``labelsTr``, those that differ from the prediction."""
    if finder.also_drawn or not finder.is_in_use(case, label.file):
        return set(found.drawn) if finder.also_drawn else set()
    predicted, axis = finder.prediction(case), NUMPY_AXIS[finder.slices_of(case, label.file).axis]
    return {
        index
        for index in found.drawn
        if predicted is None or not np.array_equal(label.voxels.take(index, axis), predicted.take(index, axis))
    }


def _say(
    finder: LabelFinder,
    case: str,
    axis: str,
    found: SliceCheck,
    merged: Merged,
    left: Iterable[int],
    confirmed: bool,
) -> None:
    sentences = []
    if found.empty and confirmed:
        sentences.append(f"{_words(found.empty, axis)}: empty, taken as background.")
    if found.untouched and found.touched:
        sentences.append(
            f"{_words(found.untouched, axis)}: as predicted, taken as right; a correction is taken later, too."
        )
    if found.absent:
        sentences.append(f"{_words(found.absent, axis)}: not labelled, still waited for.")
    if left := tuple(sorted(left)):
        sentences.append(f"{_words(left, axis)}: drawn, but not asked for; --also-drawn takes them, too.")
    if merged.kept:
        sentences.append(f"{_words(merged.kept, axis)}: labelled before and empty now; the earlier label stays.")
    if merged.outdated:
        sentences.append(
            f"{_words(merged.outdated, axis)}: not changed in the file, but corrected since; the correction stays."
        )
    finder.report.warn(case, *(f"Case {case}, {sentence}" for sentence in sentences))


def _words(slices: Iterable[int], axis: str) -> str:
    slices = tuple(slices)
    return SliceRequest(axis, slices).words() if slices else f"slices along {axis}"
