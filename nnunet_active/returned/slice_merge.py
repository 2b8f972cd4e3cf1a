"""Labels of some slices that come back: what was done with the slices that were asked for, and what becomes of the label so far.

The slices that were asked for are taken as labelled, an empty one as background; corrections of earlier slices are taken over; what was
drawn elsewhere only where that is welcome. Nothing that was labelled is ever lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from nnunet_active.annotation.records import voxel_digest
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.campaign.slices_at_start import slices_of_label
from nnunet_active.data.label_reader import read_label
from nnunet_active.data.partial_labels import SliceCheck, check_slices, labelled_slices, merge_slices
from nnunet_active.data.slice_map import NUMPY_AXIS
from nnunet_active.returned.label_finder import FinishedLabel, LabelFinder
from nnunet_active.util.errors import BadCase


def merge_returned(finder: LabelFinder, case: str, label: FinishedLabel, also_drawn: bool = False) -> FinishedLabel:
    """What becomes the label of a case; of one of which nothing was asked for, or all of it, what came back.

    Args:
        finder: knows the campaign, the prediction and the label so far; what is odd is said in its report.
        case: identifier.
        label: what came back.
        also_drawn: also take slices that were drawn and that nobody asked for.

    Raises:
        BadCase: nothing was done in the slices that were asked for; one sentence that names them.
    """
    known = finder.campaign.slices_of_file(case, label.file)
    if known is None and finder.campaign.asks_for_slices:
        axis = finder.campaign.settings.axis
        return replace(label, slices=slices_of_label(finder.store, case, label.voxels, axis, finder.ignore))
    if known is None:
        return label
    waiting = finder.campaign.waiting_slices().get(case)
    asked = waiting.within(known) if waiting is not None else None
    axis, ignore = NUMPY_AXIS[known.axis], finder.ignore
    before = _label_so_far(finder, case, label.file)
    wanted = () if asked is None else asked.slices
    found = check_slices(label.voxels, finder.prediction(case), axis, wanted, ignore, before)
    accepted = case in finder.accept or label.accepted
    take = found.to_take(accepted)
    drawn = list(found.drawn) if also_drawn else []
    merged = merge_slices(before, label.voxels, axis, [*take, *drawn], ignore)
    _say(finder, case, known.axis, found, merged.kept, also_drawn, bool(found.touched) or accepted)
    # not what is new in the file: a run that was killed may have put it there already
    there, counted = set(labelled_slices(merged.label, axis, ignore)), finder.campaign.known_slices().get(case)
    new = (there if also_drawn else there.intersection(take)) - set(counted.slices if counted else ())
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
    return FinishedLabel(voxels, voxel_digest(voxels), label.file, label.files, request, label.accepted)


def _label_so_far(finder: LabelFinder, case: str, file: Path) -> np.ndarray | None:
    """What is labelled of a case without a file that came back; None: nothing."""
    for earlier in (finder.used(case), finder.target(case)):
        if earlier.is_file() and earlier != file:
            image = finder.raw.cases[case].images[0]
            return read_label(case, earlier, image, finder.dataset_json, finder.reader, finder.ending).voxels
    return None


def _say(
    finder: LabelFinder,
    case: str,
    axis: str,
    found: SliceCheck,
    kept: Iterable[int],
    also_drawn: bool,
    confirmed: bool,
) -> None:
    sentences = []
    if found.empty and confirmed:
        sentences.append(f"{_words(found.empty, axis)}: empty, taken as background.")
    if found.untouched and found.touched:
        sentences.append(f"{_words(found.untouched, axis)}: as predicted, taken as right.")
    if found.absent:
        sentences.append(f"{_words(found.absent, axis)}: not labelled, still waited for.")
    if found.drawn and not also_drawn:
        sentences.append(f"{_words(found.drawn, axis)}: drawn, but not asked for; --also-drawn takes them, too.")
    if kept := tuple(kept):
        sentences.append(f"{_words(kept, axis)}: labelled before and empty now; the earlier label stays.")
    finder.report.warn(case, *(f"Case {case}, {sentence}" for sentence in sentences))


def _words(slices: Iterable[int], axis: str) -> str:
    slices = tuple(slices)
    return SliceRequest(axis, slices).words() if slices else f"slices along {axis}"
