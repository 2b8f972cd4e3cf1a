"""A tiny two-channel data set in nnU-Net's raw format, and plans for it, for tests that run nnU-Net's own code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

NAME = "Dataset901_Tiny"
ENDING = ".nii.gz"
SHAPE = (6, 16, 14)
SPACING = (1.0, 1.0, 3.0)  # x, y, z
DATASET_JSON = {
    "channel_names": {"0": "T1", "1": "FLAIR"},
    "labels": {"background": 0, "oedema": 1, "core": 2},
    "numTraining": 3,
    "file_ending": ENDING,
}


def write_image(file: Path, array: np.ndarray, spacing=SPACING, origin=(5.0, -7.0, 2.0), direction=None) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    if direction is not None:
        image.SetDirection(direction)
    sitk.WriteImage(image, str(file))
    return file


def intensities(seed: int) -> np.ndarray:
    """Noise within a border of zeros, which nnU-Net's preprocessing cuts away."""
    array = np.zeros(SHAPE, dtype=np.float32)
    array[:, 2:, 1:-1] = 100 + 20 * np.random.default_rng(seed).standard_normal((SHAPE[0], SHAPE[1] - 2, SHAPE[2] - 2))
    return array


def segmentation(seed: int = 0) -> np.ndarray:
    array = np.zeros(SHAPE, dtype=np.uint8)
    array[2:5, 5 + seed % 3 : 11, 4:10] = 1
    array[3, 7:9, 6:8] = 2
    return array


def write_images(folder: Path, case: str, seed: int = 0) -> list[Path]:
    return [write_image(folder / f"{case}_{c:04d}{ENDING}", intensities(10 * seed + c)) for c in range(2)]


def write_label(raw: Path, case: str, seed: int = 0) -> Path:
    return write_image(raw / "labelsTr" / f"{case}{ENDING}", segmentation(seed))


def make_raw(root: Path, labelled=("a", "b"), unlabelled=("u",), dataset_json: dict = DATASET_JSON) -> Path:
    """``root/Dataset901_Tiny`` with these cases."""
    raw = root / NAME
    raw.mkdir(parents=True)
    (raw / "dataset.json").write_text(json.dumps(dataset_json))
    for seed, case in enumerate((*labelled, *unlabelled)):
        write_images(raw / "imagesTr", case, seed)
        if case in labelled:
            write_label(raw, case, seed)
    return raw


def make_plans() -> dict:
    """Plans with a 3-D and a 2-D configuration; 1.25 mm in the plane, so that there is something to resample."""

    def configuration(name: str, spacing: list[float], patch: list[int]) -> dict:
        return {
            "data_identifier": f"nnUNetActivePlans_{name}",
            "preprocessor_name": "DefaultPreprocessor",
            "batch_size": 2,
            "patch_size": patch,
            "spacing": spacing,
            "normalization_schemes": ["ZScoreNormalization", "ZScoreNormalization"],
            "use_mask_for_norm": [False, True],
            "resampling_fn_data": "resample_data_or_seg_to_shape",
            "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
            "resampling_fn_seg": "resample_data_or_seg_to_shape",
            "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
            "architecture": {},
        }

    return {
        "dataset_name": NAME,
        "plans_name": "nnUNetActivePlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "foreground_intensity_properties_per_channel": {"0": {}, "1": {}},
        "label_manager": "LabelManager",
        "configurations": {
            "3d_fullres": configuration("3d_fullres", [3.0, 1.25, 1.25], [4, 8, 8]),
            "2d": configuration("2d", [1.25, 1.25], [8, 8]),
        },
    }
