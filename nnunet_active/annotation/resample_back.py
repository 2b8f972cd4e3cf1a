"""Adapter for nnU-Net's export: turns logits of the preprocessed array into a label map and an uncertainty map of the scan."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch import Tensor

from nnunet_active.annotation.uncertainty import entropy_map
from nnunet_active.data.cases import CaseStore
from nnunet_active.data.dataset_json import allowed_label_values
from nnunet_active.util.errors import BadCase


class _WithEntropy:
    """nnU-Net's label manager, which also keeps the entropy of the resampled logits when it converts them to a segmentation.

    nnU-Net could return all probabilities instead, but with many classes these take several times the memory of its own prediction.
    """

    def __init__(self, labels: LabelManager, temperature: float) -> None:
        self._labels, self._temperature = labels, temperature
        self.entropy: np.ndarray | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._labels, name)

    def convert_logits_to_segmentation(self, logits: np.ndarray | Tensor) -> np.ndarray | Tensor:
        self.entropy = entropy_map(torch.as_tensor(logits), self._labels.has_regions, self._temperature)
        return self._labels.convert_logits_to_segmentation(logits)


def to_original_space(
    case: str, logits: Tensor, store: CaseStore, properties: dict, dataset_json: dict, temperature: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Label map and uncertainty map on the scan's voxels, in its reader's order.

    The label map is the one that ``nnUNetv2_predict`` writes from these logits. The uncertainty is the entropy (nats) of the logits
    after nnU-Net's resampling. Outside the crop of preprocessing, the prediction is background and the entropy 0.

    Args:
        case: identifier, for messages.
        logits: (C, Z, Y, X) of the preprocessed array.
        store: knows the plans and the configuration.
        properties: nnU-Net's properties of the case.
        dataset_json: defines the labels.
        temperature: temperature of the uncertainty map; the label map does not depend on it.

    Returns:
        (Z, Y, X) uint8 (uint16 if a label value needs it), and (Z, Y, X) float32.

    Raises:
        BadCase: the network's output holds NaN or infinite values.
    """
    plans = store.plans_manager
    labels = _WithEntropy(plans.get_label_manager(dataset_json), temperature)
    segmentation = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits.cpu(),
        plans,
        store.configuration_manager,
        labels,
        properties,
        num_threads_torch=torch.get_num_threads(),
    )
    if not np.isfinite(labels.entropy).all():
        raise BadCase(
            f"Case {case}: the network's output holds NaN or infinite values; check the model and the case's images."
        )
    uncertainty = np.zeros(properties["shape_before_cropping"], dtype=np.float32)
    uncertainty[tuple(slice(*bounds) for bounds in properties["bbox_used_for_cropping"])] = labels.entropy
    small = max(allowed_label_values(dataset_json)) < 256
    return (
        np.ascontiguousarray(segmentation, dtype=np.uint8 if small else np.uint16),
        np.ascontiguousarray(uncertainty.transpose(plans.transpose_backward)),
    )
