"""How much an annotator changed a prediction, in numbers. Pure functions on label maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nnunet_active.data.dataset_json import class_masks
from nnunet_active.util.errors import BadCase


def dice(one: np.ndarray, other: np.ndarray) -> float | None:
    """``2 |A and B| / (|A| + |B|)`` of two masks; None if both are empty."""
    total = int(np.count_nonzero(one)) + int(np.count_nonzero(other))
    return 2 * int(np.count_nonzero(one & other)) / total if total else None


def compare(label: np.ndarray, predicted: np.ndarray | None, labels: dict, voxel_mm3: float) -> dict[str, Any]:
    """Dice prediction to label and volumes per class, as ``Campaign.record_label`` keeps them.

    Args:
        label: (Z, Y, X) integers.
        predicted: the model's prediction, same shape; None if it is not known.
        labels: ``labels`` of ``dataset.json``.
        voxel_mm3: volume of a voxel in mm3.

    Returns:
        ``dice`` (class -> number or None if both are empty; empty without a prediction), ``volume_predicted_mm3``,
        ``volume_label_mm3``, ``changed_voxels`` (None without a prediction). Dice, volumes and the count leave out the voxels
        that the annotator ignored.

    Raises:
        BadCase: the shapes differ.
    """
    found: dict[str, Any] = {"dice": {}, "volume_predicted_mm3": {}, "volume_label_mm3": {}, "changed_voxels": None}
    for name, mask in class_masks(label, labels).items():
        found["volume_label_mm3"][name] = float(np.count_nonzero(mask) * voxel_mm3)
    if predicted is None:
        return found
    if predicted.shape != label.shape:
        raise BadCase(
            f"The prediction has the shape {predicted.shape}, the label {label.shape}; they cannot be compared."
        )
    ignore = labels.get("ignore")
    counted = np.ones(label.shape, dtype=bool) if ignore is None else label != ignore
    for (name, truth), guess in zip(
        class_masks(label, labels).items(), class_masks(predicted, labels).values(), strict=True
    ):
        found["dice"][name] = dice(truth & counted, guess & counted)
        found["volume_predicted_mm3"][name] = float(np.count_nonzero(guess & counted) * voxel_mm3)
    found["changed_voxels"] = int(np.count_nonzero((label != predicted) & counted))
    return found


def is_accepted(facts: Mapping[str, Any]) -> bool:
    """Whether a label is the unchanged prediction: its Dice of 1 then says that nobody objected, and nothing about the network.

    Args:
        facts: the result of :func:`compare`.
    """
    return facts.get("changed_voxels") == 0
