"""What an annotator started from: the campaign's record beside the predictions, and the digests in hand-off folders; and whether a
label of slices is finished."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from nnunet_active.annotation.image_record import is_of_these, record_file
from nnunet_active.annotation.records import HANDOFF_FILE, begun_file, read_handoff
from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.data.partial_labels import SliceCheck
from nnunet_active.data.raw_dataset import RawCase
from nnunet_active.util.errors import MissingInput
from nnunet_active.util.folders import files_below


def record_of(campaign: Campaign, case: str, number: int | None, ending: str) -> Path | None:
    """The file with the label that the annotator of a case started from, if slices were asked for.

    Args:
        campaign: opened.
        case: identifier.
        number: number of the round whose hand-off the annotator had; None if not known, then the last round counts.
        ending: file ending of the data set.

    Returns:
        The file; None if no slices were asked for, or if an earlier version handed the case over.
    """
    for one in reversed(campaign.rounds[:number]):
        if case in one.slices:
            file = begun_file(campaign.predictions_folder(one.number), case, ending)
            return file if file.is_file() else None
    return None


def of_replaced_image(campaign: Campaign, raw: RawCase) -> str:
    """Says that the image of a case was replaced since its prediction was made for the last round that asked for it; empty if not."""
    rounds = [one.number for one in campaign.rounds if raw.identifier in one.requested]
    record = record_file(campaign.predictions_folder(rounds[-1]), raw.identifier) if rounds else None
    return (
        "" if record is None or is_of_these(record, raw.images) else "its image was replaced since it was handed over"
    )


def given_label(handed_over: np.ndarray | None, predicted: np.ndarray | None, ignore: int) -> np.ndarray | None:
    """Reference for a label of waiting slices: what was handed over; where that is unlabelled, the prediction; None if unknown."""
    if handed_over is None or predicted is None:
        return predicted if handed_over is None else handed_over
    return np.where(handed_over == ignore, predicted, handed_over)


def digests_of(campaign: Campaign, folders: Iterable[Path]) -> tuple[dict[str, set[str]], list[str]]:
    """Digests of the labels as they were handed out, by case; and a sentence for each damaged ``handoff.json``.

    Args:
        campaign: gives its hand-off folders.
        folders: further folders, searched at any depth.
    """
    recorded = (campaign.handoff_folder(one.number) for one in campaign.rounds)
    places = dict.fromkeys([*folders, *(one for one in recorded if one is not None)])
    digests: dict[str, set[str]] = {}
    damaged = []
    for file in (one for place in places for one in files_below(place) if one.name == HANDOFF_FILE):
        try:
            for case, entry in read_handoff(file.parent)["cases"].items():
                digests.setdefault(case, set()).add(entry["digest"])
        except (MissingInput, KeyError, TypeError):
            damaged.append(f"{file} is damaged; the archived predictions tell what is untouched.")
    return digests, damaged


def half_done(case: str, axis: str, found: SliceCheck) -> str | None:
    """What to tell whoever hands in a file in which only some of the requested slices were changed; None for any other file."""
    if not (found.touched and found.untouched):
        return None
    changed, left = (SliceRequest(axis, slices).words() for slices in (found.touched, found.untouched))
    return (
        f"Case {case}: {changed} changed, {left} still as predicted, so the file may not be finished; if it is: --accept-unchanged "
        f"{case}."
    )
