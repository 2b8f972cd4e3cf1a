"""Recognises labels that can be taken, but may have been drawn on another scan."""

from __future__ import annotations

import filecmp
from collections.abc import Mapping
from pathlib import Path

from nnunet_active.data.dataset_json import class_masks
from nnunet_active.data.geometry import size_then_and_now
from nnunet_active.data.label_agreement import compare
from nnunet_active.returned.finished_label import FinishedLabel
from nnunet_active.returned.label_finder import LabelFinder


def doubt_about(
    finder: LabelFinder, case: str, label: FinishedLabel, others: Mapping[str, FinishedLabel]
) -> str | None:
    """Why a label may be that of another scan, in one sentence; None if nothing says so.

    Either it is voxel for voxel that of another case, or its file has another size than the image and its Dice with the prediction is
    0 in every class, though both have foreground. A label with the size of the image may miss a prediction that is wrong altogether.

    Args:
        finder: knows the campaign, the images and the predictions.
        case: identifier.
        label: the label, on the grid of the image.
        others: further labels that came back together with it; the case's own does not count.
    """
    if not any(mask.any() for mask in class_masks(label.voxels, finder.dataset_json["labels"]).values()):
        return None  # an empty label fits many cases
    if (twin := _twin(finder, case, label, others)) is not None:
        reason = f"is voxel for voxel that of {twin}"
    elif _misses_in_a_box(finder, case, label):
        reason = "does not touch the prediction anywhere, and its file has another size than the image"
    else:
        return None
    return (
        f"Case {case}: the label {label.file} {reason}; it may be the label of another scan: open it over the image, and if it is "
        f"wrong, save the right one and ingest again."
    )


def _twin(finder: LabelFinder, case: str, label: FinishedLabel, others: Mapping[str, FinishedLabel]) -> str | None:
    known = {other: facts.get("digest") for other, facts in finder.campaign.ingested.items()}
    known |= {other: one.digest for other, one in others.items()}
    same = (other for other, digest in known.items() if other != case and digest == label.digest)
    # labels from the start have no digest
    files = {other: raw.label for other, raw in finder.raw.cases.items() if raw.label is not None}
    unknown = {other: file for other, file in files.items() if other != case and not known.get(other)}
    copied = (other for other, file in unknown.items() if _has_same_bytes(file, label.file))
    return next(same, None) or next(copied, None)


def _has_same_bytes(one: Path, other: Path) -> bool:
    """Whether two files are copies of each other; reads them only if they have the same size."""
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)


def _misses_in_a_box(finder: LabelFinder, case: str, label: FinishedLabel) -> bool:
    # headers first: few files have another size, and to read the prediction takes long
    if size_then_and_now(label.file, finder.raw.cases[case].images[0]) is None:
        return False
    facts = compare(label.voxels, finder.prediction(case), finder.dataset_json["labels"], 1.0)
    return any(facts["volume_predicted_mm3"].values()) and not any(facts["dice"].values())
