"""Surface Dice and Hausdorff distance by MONAI, if it is installed (``pip install nnunet_active[benchmark]``)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from types import ModuleType

import numpy as np
import torch

MARGIN = 2  # voxels around both masks, so that no surface touches the border of the crop


@cache
def _metrics() -> ModuleType | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import monai.metrics
    except ImportError:
        return None
    return monai.metrics


def available() -> bool:
    """Whether MONAI is installed."""
    return _metrics() is not None


def surface_metrics(
    reference: np.ndarray, predicted: np.ndarray, spacing: Sequence[float], tolerance_mm: float
) -> tuple[float, float]:
    """Surface Dice at a tolerance, and the 95 % Hausdorff distance in mm.

    Surface Dice (Nikolov et al., 2021): share of both surfaces that lies within the tolerance of the other one. If one mask is empty,
    it is 0 and the distance is not defined (NaN); if both are empty, both are NaN.

    Args:
        reference: bool, (Z, Y, X); with Z = 1 the surface is the outline in that slice.
        predicted: bool, same shape.
        spacing: mm, in the same order of axes.
        tolerance_mm: of the surface Dice.

    Returns:
        (surface Dice, HD95); NaN for both if MONAI is not installed.
    """
    nan = float("nan")
    metrics = _metrics()
    either = reference | predicted
    if metrics is None or not either.any():
        return nan, nan
    if not reference.any() or not predicted.any():
        return 0.0, nan
    where = tuple(
        slice(max(0, int(index.min()) - MARGIN), int(index.max()) + 1 + MARGIN) for index in np.nonzero(either)
    )
    masks = [mask[where] for mask in (predicted, reference)]
    if reference.shape[0] == 1:  # a picture: in a volume of one slice, every voxel would lie on the surface
        masks, spacing = [mask[0] for mask in masks], spacing[1:]
    one_hot = [torch.from_numpy(np.stack([~mask, mask]))[None] for mask in masks]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI warns about every empty class
        dice = metrics.compute_surface_dice(*one_hot, class_thresholds=[tolerance_mm], spacing=list(spacing))
        distance = metrics.compute_hausdorff_distance(*one_hot, percentile=95, spacing=list(spacing))
    return float(dice[0, 0]), float(distance[0, 0])
