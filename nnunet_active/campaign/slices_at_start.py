"""Finds labelled slices that nobody asked for: at the start of a campaign of slices, and when a label comes unasked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_active.campaign.place import Place
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.data.cases import CaseStore, open_store
from nnunet_active.data.dataset_json import ignore_value, read_dataset_json
from nnunet_active.data.label_reader import read_label
from nnunet_active.data.maps import to_file_order
from nnunet_active.data.partial_labels import is_partial, labelled_slices
from nnunet_active.data.partly_labelled import find_partly_labelled
from nnunet_active.data.raw_dataset import RawDataset, read_pool_folders
from nnunet_active.data.slice_map import NUMPY_AXIS, map_along, slice_maps
from nnunet_active.nnunet.nnunet_paths import raw_root


def slices_at_start(place: Place, cases: Sequence[str], axis: str) -> dict[str, SliceRequest]:
    """The partly labelled ones among labelled cases, with their slices, so that other slices may be asked for.

    Args:
        place: the campaign's place.
        cases: labelled cases; those that are not preprocessed yet are skipped.
        axis: the campaign's setting.

    Raises:
        BadCase: a label cannot be read.
    """
    description, plans = place.dataset_folder / "dataset.json", place.dataset_folder / f"{place.plans}.json"
    if not description.is_file() or not plans.is_file():
        return {}
    dataset_json = read_dataset_json(description).content
    store, ignore = open_store(place.dataset, place.plans, place.configuration), ignore_value(dataset_json)
    stored = sorted(set(cases) & set(store.labelled_identifiers()))
    partly = find_partly_labelled(store.folder, stored, ignore).cases
    if not partly:
        return {}
    raw = RawDataset(raw_root() / place.dataset, read_pool_folders(place.dataset_folder))
    reader, found = store.plans_manager.image_reader_writer_class, {}
    for case in partly:
        if case not in raw.cases or raw.cases[case].label is None:
            continue
        files = raw.cases[case]
        label = read_label(case, files.label, files.images[0], dataset_json, reader, raw.file_ending).voxels
        if (slices := slices_of_label(store, case, label, axis, ignore)) is not None:
            found[case] = slices
    return found


def slices_of_label(store: CaseStore, case: str, label: np.ndarray, axis: str, ignore: int) -> SliceRequest | None:
    """The labelled slices of one label; None if the whole case or nothing is labelled.

    Args:
        store: holds the preprocessed case.
        case: identifier.
        label: (Z, Y, X), in file order.
        axis: the campaign's setting.
        ignore: the ignore value.
    """
    if not is_partial(label, ignore):
        return None
    properties = store.properties(case)
    shape = properties["shape_after_cropping_and_before_resampling"]
    maps = slice_maps(properties, store.plans_manager.transpose_forward, shape, to_file_order)
    along = map_along(maps, axis).axis
    slices = labelled_slices(label, NUMPY_AXIS[along], ignore)
    return SliceRequest(along, tuple(slices)) if slices else None
