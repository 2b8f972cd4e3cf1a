"""Preprocess labels with nnU-Net's own code, but skip the costly image steps if the image is known, and keep unlabelled voxels from
changing the image.

Stock preprocessing handles image and label together: transpose, crop, normalise, resample, note where each class lies. Nearly all
of the work is normalising and resampling the image (spline interpolation). It does not depend on the label, with one exception: a
scheme that normalises within the image's foreground also counts voxels outside of it that have a label. Stock preprocessing counts
the ignore value as such a label. It would normalise a partly labelled scan over the air around it, and so unlike the scans that the
network predicts later. Here the ignore value means what it is: nothing known.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.preprocessing.cropping.cropping import create_nonzero_mask
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

from nnunet_active.data.cases import CaseStore
from nnunet_active.data.dataset_json import ignore_value
from nnunet_active.data.raw_dataset import RawCase

LabelChange = Callable[[np.ndarray, dict], np.ndarray]
"""Maps a label (1, Z, Y, X), in its reader's order, and the reader's properties to the label that is preprocessed."""


class _ImageDependsOnLabel(Exception):
    """The image must be normalised anew."""


class _WithKnownImage:
    """A configuration that returns the known image instead of resampling; everything else comes from the real one."""

    def __init__(self, configuration_manager: Any, image: np.ndarray) -> None:
        self._configuration_manager = configuration_manager
        self._image = image

    def __getattr__(self, name: str) -> Any:
        return getattr(self._configuration_manager, name)

    def resampling_fn_data(self, data: np.ndarray, new_shape: Any, *_: Any) -> np.ndarray:
        """The known image, if it has the shape that resampling would give."""
        if self._image.shape != (len(data), *(int(n) for n in new_shape)):
            raise _ImageDependsOnLabel
        return self._image


def preprocessor_class(store: CaseStore, dataset_json: dict, change: LabelChange | None = None) -> type:
    """The plans' own preprocessor, changed so that the ignore value has no effect on the image.

    Args:
        store: for plans and configuration.
        dataset_json: for the labels.
        change: applied to a label before anything else.

    Returns:
        The stock class itself if there is nothing to change, or if it is not nnU-Net's own.
    """
    stock, ignore = store.configuration_manager.preprocessor_class, ignore_value(dataset_json)
    if (ignore is None and change is None) or not is_nnunets_own(stock):
        return stock

    class PartlyLabelled(stock):
        def run_case_npy(self, data: np.ndarray, seg: np.ndarray | None, properties: dict, *more: Any) -> tuple:
            if seg is not None and change is not None:
                seg = change(seg, properties)
            return super().run_case_npy(data, seg, properties, *more)

        def _normalize(self, data: np.ndarray, seg: np.ndarray, configuration_manager: Any, *more: Any) -> np.ndarray:
            if any(configuration_manager.use_mask_for_norm) and (seg == ignore).any():
                seg = np.where((seg == ignore) & ~create_nonzero_mask(data)[None], -1, seg)
            return super()._normalize(data, seg, configuration_manager, *more)

    return PartlyLabelled


def is_nnunets_own(stock: type) -> bool:
    """Whether a preprocessor runs and normalises a case with nnU-Net's own methods."""
    return all(getattr(stock, name) is getattr(DefaultPreprocessor, name) for name in ("run_case_npy", "_normalize"))


def save_with_known_image(
    output: str,
    case: RawCase,
    image: np.ndarray,
    store: CaseStore,
    dataset_json: dict,
    change: LabelChange | None = None,
) -> bool:
    """Write the files that :func:`preprocessor_class` would write for image and label, without computing the image again.

    Args:
        case: a case with a label.
        case: with its label.
        image: the preprocessed image, float32 (M, Z, Y, X).
        store: for plans and configuration.
        dataset_json: for the labels.
        change: applied to the label before anything else.

    Returns:
        False, with nothing written, if the preprocessor is not nnU-Net's own or the image depends on the label: both then need
        preprocessing.
    """
    if not is_nnunets_own(store.configuration_manager.preprocessor_class):
        return False
    ignore = ignore_value(dataset_json)

    class LabelPreprocessor(preprocessor_class(store, dataset_json, change)):
        def _normalize(self, data: np.ndarray, seg: np.ndarray, configuration_manager: Any, _: dict) -> np.ndarray:
            if any(configuration_manager.use_mask_for_norm):
                outside = seg[0][~create_nonzero_mask(data)]
                if np.any((outside >= 0) & (outside != ignore)):
                    raise _ImageDependsOnLabel
            return data

    try:
        LabelPreprocessor(verbose=False).run_case_save(
            output,
            [str(file) for file in case.images],
            str(case.label),
            store.plans_manager,
            _WithKnownImage(store.configuration_manager, image),
            dataset_json,
        )
    except _ImageDependsOnLabel:
        for file in Path(output).parent.glob("*"):
            file.unlink()
        return False
    return True
