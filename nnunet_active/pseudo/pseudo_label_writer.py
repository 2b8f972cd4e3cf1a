"""Writes a prediction as a labelled case that nnU-Net can train on: link to the image, label and properties."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import write_pickle
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params

from nnunet_active.data.blosc_files import blosc2
from nnunet_active.data.case_writer import RECORD_KEY
from nnunet_active.data.cases import CaseStore
from nnunet_active.data.partly_labelled import fill_ignored
from nnunet_active.nnunet.window import Window
from nnunet_active.util.errors import BadCase


def without_properties(store: CaseStore, cases: Iterable[str]) -> dict[str, str]:
    """One sentence for each of these cases whose properties cannot be read, so that :func:`write_pseudo_case` cannot write it."""
    found = {}
    for case in cases:
        try:
            store.properties(case)
        except BadCase as error:
            found[case] = f"Case {case}: {error}"
    return found


def write_pseudo_case(
    case: str, store: CaseStore, window: Window, dataset_json: dict, folder: Path, drawn: np.ndarray | None = None
) -> None:
    """Write image link, label and properties of one case. The label is the prediction, combined with what people drew.

    Args:
        case: the case.
        store: gives its preprocessed image.
        window: the network.
        dataset_json: the target's, for the classes.
        folder: gets ``CASE.b2nd``, ``CASE_seg.b2nd`` and ``CASE.pkl``.
        drawn: partial label (1, Z, Y, X); the prediction fills only its ignore value.
    """
    image = store.load_image(case)
    manager = store.plans_manager.get_label_manager(dataset_json)
    seg = window.label_map(image)[None]
    if drawn is not None:
        seg = fill_ignored(drawn, seg, manager.ignore_label)
    patch = tuple(store.configuration_manager.patch_size)
    properties = dict(store.properties(case))
    for key in ("class_locations", RECORD_KEY):  # they belong to a withheld label, and to files not used here
        properties.pop(key, None)
    wanted = list(manager.foreground_regions if manager.has_regions else manager.foreground_labels)
    if manager.has_ignore_label:
        wanted.append([-1, *manager.all_labels])
    properties["class_locations"] = DefaultPreprocessor._sample_foreground_locations(seg, wanted)
    _save_array(seg, folder / f"{case}_seg.b2nd", patch)
    write_pickle(properties, str(folder / f"{case}.pkl"))
    file = store.image_file(case)
    if file.suffix == ".b2nd":
        link_file(file, folder / f"{case}.b2nd")
    else:  # the older format has image and label in one file, which must not be linked
        _save_array(image, folder / f"{case}.b2nd", patch)


def link_file(source: Path, target: Path, symbolic_first: bool = False) -> None:
    """Make a hard link, which survives if ``source`` is removed; else a symbolic link; else (file systems without links) a copy."""
    source, problem = Path(source).resolve(), OSError()
    ways = [os.symlink, os.link, shutil.copy2] if symbolic_first else [os.link, os.symlink, shutil.copy2]
    for way in ways:
        try:
            way(source, target)
            return
        except OSError as error:
            problem = error
    raise problem


def _save_array(array: np.ndarray, file: Path, patch: tuple[int, ...]) -> None:
    """Save an array as nnU-Net does, with chunks and blocks that suit the patch size."""
    blocks, chunks = comp_blosc2_params(array.shape, patch, array.itemsize)
    compression = {"codec": blosc2.Codec.LZ4HC, "clevel": 5, "nthreads": 1, "filters": [blosc2.Filter.SHUFFLE]}
    array = np.ascontiguousarray(array)
    blosc2.asarray(array, urlpath=str(file), chunks=chunks, blocks=blocks, cparams=compression)
