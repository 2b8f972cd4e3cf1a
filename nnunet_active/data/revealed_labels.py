"""Preprocessed cases with only some slices known, beside a campaign that withholds the rest (the retrospective oracle).

A label is cut down to its known slices as soon as it is read, before nnU-Net transposes, crops or resamples anything, so what
lies outside of them cannot influence anything. Images are links to the stored ones. A case appears in one step, its image last. It is
made again only if other slices are known, or if its files or the plans changed.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import write_pickle

from nnunet_active.data.case_writer import check_something_is_known, source_record
from nnunet_active.data.cases import CaseStore
from nnunet_active.data.dataset_json import ignore_value
from nnunet_active.data.label_preprocessing import (
    LabelChange,
    is_nnunets_own,
    preprocessor_class,
    save_with_known_image,
)
from nnunet_active.data.maps import to_file_order
from nnunet_active.data.partial_labels import keep_slices
from nnunet_active.data.raw_dataset import RawCase
from nnunet_active.data.slice_map import axis_in_reader
from nnunet_active.nnunet.plain_pickle import read_properties
from nnunet_active.util.atomic import temporary_folder
from nnunet_active.util.errors import BadCase

RECORD_KEY = "nnunet_active_revealed"


def reveal(
    case: RawCase,
    axis: str,
    slices: Sequence[int] | None,
    store: CaseStore,
    dataset_json: dict,
    folder: Path,
) -> None:
    """Store a case with only some slices known.

    Args:
        case: with its whole label.
        axis: ``x``, ``y`` or ``z`` of the stored image.
        slices: known slices, from 0; None for all.
        store: where its image is.
        dataset_json: declares the ignore label.
        folder: where to; made if it does not exist.

    Raises:
        BadCase: nothing of the known slices is left after nnU-Net's cropping and resampling, or its label cannot be cut down.
    """
    record = {
        **source_record(case, True, store, dataset_json),
        "known": None if slices is None else [axis, *sorted(slices)],
    }
    if _is_there(folder, case.identifier, record):
        return
    with temporary_folder(folder / case.identifier) as temporary:
        with contextlib.redirect_stdout(io.StringIO()):
            _make(
                case, None if slices is None else _keeping(axis, slices, dataset_json), store, dataset_json, temporary
            )
        file = temporary / f"{case.identifier}.pkl"
        properties = read_properties(file)
        check_something_is_known(case.identifier, properties)
        write_pickle({**properties, RECORD_KEY: record}, str(file))
        _move_in(temporary, folder, case.identifier)


def _keeping(axis: str, slices: Sequence[int], dataset_json: dict) -> LabelChange:
    def change(seg: np.ndarray, properties: dict) -> np.ndarray:
        return cut_to_slices(seg, properties, axis, slices, ignore_value(dataset_json))

    return change


def cut_to_slices(seg: np.ndarray, properties: dict, axis: str, slices: Sequence[int], ignore: int) -> np.ndarray:
    """Set the ignore value outside of some slices of a label.

    Args:
        seg: (1, Z, Y, X), in its reader's order.
        properties: the reader's properties.
        axis: ``x``, ``y`` or ``z`` of the stored image.
        slices: from 0.
        ignore: the ignore value.

    Raises:
        BadCase: a slice does not exist.
    """
    place, there = in_reader_order(axis, slices, seg.shape[1:], properties)
    return keep_slices(seg, 1 + place, there, ignore)


def in_reader_order(axis: str, slices: Sequence[int], shape: Sequence[int], properties: dict) -> tuple[int, list[int]]:
    """Find slices of a stored image in the array that its reader returns.

    Args:
        axis: ``x``, ``y`` or ``z`` of the stored image.
        slices: from 0.
        shape: (Z, Y, X) of the array.
        properties: the reader's properties.

    Returns:
        The axis of the array, and the indices along it.

    Raises:
        BadCase: a slice does not exist.
    """
    place, flipped = axis_in_reader(axis, lambda marker: to_file_order(marker, properties))
    length = shape[place]
    if outside := [index for index in slices if index >= length]:
        raise BadCase(f"The slice {outside[0] + 1} along {axis} is asked for, but there are {length}.")
    return place, [length - 1 - index if flipped else index for index in slices]


def _make(case: RawCase, change: LabelChange | None, store: CaseStore, dataset_json: dict, place: Path) -> None:
    """Label, properties and image in ``place``."""
    name, output = case.identifier, str(place / case.identifier)
    stock = store.configuration_manager.preprocessor_class
    if change is not None and not is_nnunets_own(stock):
        raise BadCase(
            f"Case {name}: the plans name the preprocessor {stock.__name__}, whose labels cannot be cut down to slices."
        )
    image = store.image_file(name)
    if save_with_known_image(output, case, store.load_image(name), store, dataset_json, change):
        if image.suffix == ".b2nd":
            made = place / f"{name}.b2nd"
            made.unlink()
            # from where the folder really is: it may be reached by a link
            made.symlink_to(os.path.relpath(image.parent.resolve() / image.name, place.parent.resolve()))
        return
    preprocessor_class(store, dataset_json, change)(verbose=False).run_case_save(
        output,
        [str(file) for file in case.images],
        str(case.label),
        store.plans_manager,
        store.configuration_manager,
        dataset_json,
    )


def _is_there(folder: Path, case: str, record: dict) -> bool:
    try:
        whole = all((folder / f"{case}{ending}").is_file() for ending in (".b2nd", "_seg.b2nd"))
        return whole and read_properties(folder / f"{case}.pkl")[RECORD_KEY] == record
    except Exception:  # a damaged or foreign file: made again
        return False


def _move_in(temporary: Path, folder: Path, case: str) -> None:
    (folder / f"{case}.b2nd").unlink(missing_ok=True)  # hides the case while its files change
    for ending in ("_seg.b2nd", ".pkl", ".b2nd"):
        os.replace(temporary / f"{case}{ending}", folder / f"{case}{ending}")
