"""Write one preprocessed case so that stock nnU-Net never sees part of a case, at any moment.

A case is made in a temporary folder *beside* the target (stock nnU-Net insists on a single kind of file inside it) and
moved in file by file, the image last, because nnU-Net lists cases by the image's name. A kill in between leaves a label or
properties without an image; nothing reads that as a case, and the next run replaces it. For the same reason, the image of
an outdated case is removed first.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import write_pickle
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2, nnUNetDatasetNumpy

from nnunet_active.data.blosc_files import read_b2nd
from nnunet_active.data.cases import CaseStore, case_files
from nnunet_active.data.dataset_json import ignore_value
from nnunet_active.data.label_preprocessing import preprocessor_class, save_with_known_image
from nnunet_active.data.raw_dataset import RawCase
from nnunet_active.nnunet.plain_pickle import read_properties
from nnunet_active.util.atomic import temporary_folder
from nnunet_active.util.errors import BadCase

RECORD_KEY = "nnunet_active"  # in CASE.pkl; stock nnU-Net ignores keys that it does not know
_MAKING_PLANS = ("image_reader_writer", "transpose_forward", "foreground_intensity_properties_per_channel")
_MAKING_CONFIGURATION = (
    "preprocessor_name",
    "spacing",
    "normalization_schemes",
    "use_mask_for_norm",
    "resampling_fn_data",
    "resampling_fn_data_kwargs",
    "resampling_fn_seg",
    "resampling_fn_seg_kwargs",
)


def source_record(case: RawCase, with_label: bool, store: CaseStore, dataset_json: dict) -> dict:
    """What a stored case was made from: name, size and modification time of its files, and a digest of the recipe.

    The recipe is the part of the plans (and of the labels) that changes the stored arrays, so new plans under the old
    name are noticed.
    """
    files = [*store.image_sources(case), *([case.label] if with_label and case.label else [])]
    plans, configuration = store.plans_manager.plans, store.configuration_manager.configuration
    recipe = [[plans.get(key) for key in _MAKING_PLANS], [configuration.get(key) for key in _MAKING_CONFIGURATION]]
    if with_label:
        recipe.append(list(dataset_json["labels"].values()))
    text = json.dumps(recipe, sort_keys=True, default=str)
    return {
        "sources": [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files],
        "recipe": hashlib.blake2b(text.encode(), digest_size=16).hexdigest(),
    }


def is_current(case: RawCase, with_label: bool, store: CaseStore, dataset_json: dict) -> bool:
    """Whether a whole stored copy exists that was made from these files in their present state.

    Stock nnU-Net leaves no record; its cases are current if they are not older than their source files.
    """
    stored = _stored_files(store.folder if with_label else store.pool_folder, case.identifier, with_label)
    try:
        if stored is None:
            return False
        properties = next(file for file in stored if file.suffix == ".pkl")
        made_from = read_properties(properties).get(RECORD_KEY)
        record = source_record(case, with_label, store, dataset_json)
        if made_from is not None:
            return made_from == record
        return min(file.stat().st_mtime_ns for file in stored) >= max(time for _, _, time in record["sources"])
    except Exception:  # damaged properties, or a source file that is gone: writing the case anew reports it
        return False


def write_case(
    case: RawCase, with_label: bool, store: CaseStore, dataset_json: dict, label: Path | None = None
) -> None:
    """Preprocess one case with the plans' own preprocessor into the store, and drop its pool copy if it is labelled.

    If nnU-Net cannot read the format of the case's own label file, ``label`` replaces it.

    The same function as in ``nnUNetv2_preprocess`` makes the arrays and files. If the pool holds a current copy of the image, only
    the label is preprocessed.

    Raises:
        BadCase: nothing of what is labelled is left of a partly labelled case; what was stored before stays.
    """
    target = store.folder if with_label else store.pool_folder
    record = source_record(case, with_label, store, dataset_json)  # before reading, so that a later change is noticed
    target.mkdir(parents=True, exist_ok=True)
    # beside the folder that a link points to, so that the moves stay in one file system
    with temporary_folder(target.resolve()) as temporary, contextlib.redirect_stdout(io.StringIO()):
        output = str(temporary / case.identifier)
        case = replace(case, label=label or case.label)
        image = pool_image(case, store, dataset_json) if with_label else None
        if image is None or not save_with_known_image(output, case, image, store, dataset_json):
            preprocessor_class(store, dataset_json)(verbose=False).run_case_save(
                output,
                [str(file) for file in case.images],
                str(case.label) if with_label else None,
                store.plans_manager,
                store.configuration_manager,
                dataset_json,
            )
        properties_file = str(temporary / f"{case.identifier}.pkl")
        properties = read_properties(Path(properties_file))
        if with_label and ignore_value(dataset_json) is not None:
            check_something_is_known(case.identifier, properties)
        properties[RECORD_KEY] = record
        write_pickle(properties, properties_file)
        old_format = with_label and _holds_npz(target)
        if old_format:
            data, seg, _, _ = nnUNetDatasetBlosc2(str(temporary), [case.identifier]).load_case(case.identifier)
            nnUNetDatasetNumpy.save_case(data[:], seg[:], properties, str(temporary / case.identifier))
        _move_in(temporary, target, case.identifier, with_label, old_format)
    if with_label:
        drop_pool_copy(store, case.identifier)


def check_something_is_known(case: str, properties: dict) -> None:
    """Make sure that a training can learn from a preprocessed case of a data set with an ignore label.

    Raises:
        BadCase: every voxel has the ignore value.
    """
    # the longest key stands for all voxels but those with the ignore value
    annotated = max(properties["class_locations"], key=lambda key: len(key) if isinstance(key, tuple) else 0)
    if not len(properties["class_locations"][annotated]):
        raise BadCase(
            f"Case {case}: nothing of what is labelled in it is left after its image was cropped and resampled to the voxels of the "
            f"plans; label more slices side by side."
        )


def pool_image(case: RawCase, store: CaseStore, dataset_json: dict) -> np.ndarray | None:
    """The preprocessed image from the pool, float32 (M, Z, Y, X), if it matches the case's present files; else None."""
    if not is_current(case, False, store, dataset_json):
        return None
    file = store.pool_folder / f"{case.identifier}.b2nd"
    try:
        return np.ascontiguousarray(read_b2nd(file), dtype=np.float32)
    except Exception:  # blosc2 raises very different errors for a damaged file: it is made anew
        return None


def drop_pool_copy(store: CaseStore, case: str) -> None:
    """Remove a case's files from the pool folder, once the case is whole in the stock folder."""
    for ending in (".b2nd", ".pkl"):
        (store.pool_folder / f"{case}{ending}").unlink(missing_ok=True)


def _move_in(temporary: Path, target: Path, case: str, with_label: bool, old_format: bool) -> None:
    files = case_files(temporary, case, with_label)[1 if old_format else 0]
    for file in files:
        with file.open("rb+") as content:
            os.fsync(content.fileno())
    # The image of an outdated copy first; older nnU-Net versions unpack .npz files to .npy.
    for ending in (".b2nd", ".npz", ".npy", "_seg.npy"):
        (target / f"{case}{ending}").unlink(missing_ok=True)
    for file in files:
        os.replace(file, target / file.name)


def _stored_files(folder: Path, case: str, with_label: bool) -> list[Path] | None:
    for files in case_files(folder, case, with_label):
        if all(file.is_file() for file in files):
            return files
    return None


def _holds_npz(folder: Path) -> bool:
    """Whether a folder holds cases in the older format; nnU-Net cannot read a folder with both."""
    with os.scandir(folder) as entries:
        return any(entry.name.endswith(".npz") for entry in entries)
