"""Preprocess a label whose image has been preprocessed before: by nnU-Net's own code, with the image's costly steps left out.

Stock preprocessing handles image and label together: transpose, crop, normalise, resample, note where each class lies. Normalising
and resampling the image (spline interpolation) is nearly all of the work, and does not depend on the label, with one exception: a
scheme that normalises within the image's foreground counts voxels that the label marks outside of it as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.preprocessing.cropping.cropping import create_nonzero_mask
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

from nnunet_active.data.cases import CaseStore
from nnunet_active.data.raw_dataset import RawCase


class _ImageDependsOnLabel(Exception):
    """The image has to be normalised anew."""


class _WithKnownImage:
    """A configuration whose resampling of the image returns what is known already; all else is the real one's."""

    def __init__(self, configuration_manager: Any, image: np.ndarray) -> None:
        self._configuration_manager = configuration_manager
        self._image = image

    def __getattr__(self, name: str) -> Any:
        return getattr(self._configuration_manager, name)

    def resampling_fn_data(self, data: np.ndarray, new_shape: Any, *_: Any) -> np.ndarray:
        """The known image, if it is of the shape that resampling would yield."""
        if self._image.shape != (len(data), *(int(n) for n in new_shape)):
            raise _ImageDependsOnLabel
        return self._image


def save_with_known_image(output: str, case: RawCase, image: np.ndarray, store: CaseStore, dataset_json: dict) -> bool:
    """Write what ``DefaultPreprocessor.run_case_save`` writes for image and label, without computing the image again.

    Args:
        output: path of the files without their endings.
        case: with its label.
        image: the preprocessed image, float32 (M, Z, Y, X).
        store: for plans and configuration.
        dataset_json: for the labels.

    Returns:
        False, with nothing written, where the preprocessor is not nnU-Net's own or the image depends on the label: both then have to
        be preprocessed.
    """
    stock = store.configuration_manager.preprocessor_class
    if any(getattr(stock, name) is not getattr(DefaultPreprocessor, name) for name in ("run_case_npy", "_normalize")):
        return False

    class LabelPreprocessor(stock):
        def _normalize(self, data: np.ndarray, seg: np.ndarray, configuration_manager: Any, _: dict) -> np.ndarray:
            if any(configuration_manager.use_mask_for_norm) and np.any(seg[0][~create_nonzero_mask(data)] >= 0):
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
