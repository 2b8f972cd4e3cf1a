"""Makes the label file of a raw case fit for nnU-Net. If nnU-Net can read the file, it is used unchanged; otherwise it is read
as an annotator's file (another format, a 3D Slicer segmentation, a smaller box), like labels that come back.

nnU-Net's validation looks for the labels in ``gt_segmentations``. If the file itself will not do, preprocessing uses that copy;
the file in the raw data set is only read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_active.data.cases import CaseStore
from nnunet_active.data.dataset_json import allowed_label_values, ignore_value
from nnunet_active.data.file_endings import SLICER_ENDING
from nnunet_active.data.geometry import Geometry
from nnunet_active.data.image_checks import check_label, check_label_values
from nnunet_active.data.label_reader import read_label
from nnunet_active.data.label_writer import copy_label, write_label
from nnunet_active.data.maps import read_in_file_order
from nnunet_active.data.raw_dataset import RawCase
from nnunet_active.data.replaced_labels import keep_for_campaigns
from nnunet_active.data.segments import segments_of
from nnunet_active.util.atomic import atomic_file
from nnunet_active.util.errors import BadCase


@dataclass(frozen=True)
class ReadyLabel:
    """A label that has been checked.

    Attributes:
        voxels: (Z, Y, X) on the grid of the image; None if nnU-Net can read the file unchanged.
        warnings: sentences.
    """

    voxels: np.ndarray | None
    warnings: tuple[str, ...] = ()


def check_raw_label(case: RawCase, store: CaseStore, dataset_json: dict, geometry: Geometry | None) -> ReadyLabel:
    """Make sure that the label of a case can be used.

    Args:
        case: a case with a label.
        store: for the reader that the plans name.
        dataset_json: for the labels.
        geometry: of the image, if that has been checked.

    Raises:
        BadCase: the label cannot be used.
    """
    reader, ending = store.plans_manager.image_reader_writer_class, dataset_json["file_ending"]
    refused = None
    if case.label.name.endswith(ending) and not names_segments(case.label):
        allowed, ignore = allowed_label_values(dataset_json), ignore_value(dataset_json)
        try:
            said = check_label(case.identifier, case.label, case.images, allowed, reader, geometry, ignore)
            return ReadyLabel(None, tuple(said))
        except BadCase as error:
            refused = error
    found = read_label(case.identifier, case.label, case.images[0], dataset_json, reader, ending)
    if refused and not found.voxels.any():  # a label that does not fit and is empty tells us nothing
        raise refused
    what = f"Case {case.identifier}: the label {case.label}"
    said = check_label_values(
        what, np.unique(found.voxels), allowed_label_values(dataset_json), ignore_value(dataset_json)
    )
    return ReadyLabel(found.voxels, (*(f"{what}: {note}." for note in found.notes), *said))


def names_segments(file: Path) -> bool:
    """Whether a label file is a 3D Slicer segmentation, in which names, not values, identify the labels."""
    name = file.name.lower()
    if name.endswith(SLICER_ENDING) or not name.endswith((".nrrd", ".nhdr")):
        return name.endswith(SLICER_ENDING)
    try:
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(file))
        reader.ReadImageInformation()
        return bool(segments_of({key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}))
    except (RuntimeError, ValueError):  # the code that reads the voxels reports it
        return False


def ground_truth(case: RawCase, store: CaseStore, dataset_json: dict) -> Path:
    """Where nnU-Net's validation looks for the label of a case."""
    return store.dataset_folder / "gt_segmentations" / f"{case.identifier}{dataset_json['file_ending']}"


def readable_label(case: RawCase, store: CaseStore, dataset_json: dict) -> Path:
    """The label of a case in a form that nnU-Net reads: the copy that was preprocessed, or the file itself."""
    copy = ground_truth(case, store, dataset_json)
    return copy if copy.is_file() else case.label


def has_ground_truth(case: RawCase, store: CaseStore, dataset_json: dict) -> bool:
    """Whether that copy exists and is not older than the label, in whole seconds, because nnU-Net rounds its own copies to these."""
    copy = ground_truth(case, store, dataset_json)
    return copy.is_file() and int(copy.stat().st_mtime) == int(case.label.stat().st_mtime)


def write_ground_truth(case: RawCase, ready: ReadyLabel, store: CaseStore, dataset_json: dict) -> Path:
    """Write that copy with the label's time; returns the file that nnU-Net can preprocess. A replaced copy is kept."""
    target = ground_truth(case, store, dataset_json)
    if target.is_file() and not _is_same_label(target, case, ready, store, dataset_json):
        keep_for_campaigns(target, store.dataset_folder, case.identifier, dataset_json["file_ending"])
    if ready.voxels is None:
        copy_label(case.label, target)
        return case.label
    reader = store.plans_manager.image_reader_writer_class
    write_label(case.identifier, ready.voxels, target, case.images[0], dataset_json, reader)
    os.utime(target, ns=(case.label.stat().st_atime_ns, case.label.stat().st_mtime_ns))
    return target


@contextmanager
def new_ground_truth(
    case: RawCase, ready: ReadyLabel | None, store: CaseStore, dataset_json: dict
) -> Iterator[Path | None]:
    """The same for as long as the case is preprocessed; if it is refused, the copy is again what it was. None without a label."""
    file = ground_truth(case, store, dataset_json)
    before, times = (file.read_bytes(), file.stat()) if file.is_file() else (None, None)
    try:
        yield None if ready is None else write_ground_truth(case, ready, store, dataset_json)
    except BadCase:
        if before is None:
            file.unlink(missing_ok=True)
        else:
            with atomic_file(file) as temporary:
                temporary.write_bytes(before)
                os.utime(temporary, ns=(times.st_atime_ns, times.st_mtime_ns))
        raise


def _is_same_label(copy: Path, case: RawCase, ready: ReadyLabel, store: CaseStore, dataset_json: dict) -> bool:
    """Whether a label already in use was only saved again."""
    if ready.voxels is None:
        return copy.read_bytes() == case.label.read_bytes()
    try:
        reader = store.plans_manager.image_reader_writer_class
        return np.array_equal(read_in_file_order(copy, dataset_json["file_ending"], reader), ready.voxels)
    except Exception:  # the image libraries raise very different errors for a damaged file
        return False
