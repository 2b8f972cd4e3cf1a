from __future__ import annotations

import numpy as np
import pytest
import tiny_target
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape

from nnunet_active.annotation.resample_back import to_original_space
from nnunet_active.annotation.uncertainty import STEP_NATS, entropy_map
from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.util.errors import BadCase

CASE = "case_0"
REGIONS = {"background": 0, "whole": [1, 2], "core": [2]}


def prepared(root, name="3d_fullres", **more):
    """A stored case whose preprocessed array has other voxels than the scan, and logits on that array."""
    target = tiny_target.make_target(root, labelled=0, unlabelled=1, name=name, **more)
    store = target.store
    store.configuration_manager.configuration["spacing"] = [2.0] * len(store.configuration_manager.spacing)
    properties = store.properties(CASE)
    shape = [16 if name == "2d" else 12, 15, 13]
    properties["shape_after_cropping_and_before_resampling"] = (13, 20, 18)
    properties["bbox_used_for_cropping"] = [[2, 15], [0, 20], [0, 18]]
    if name == "2d":
        shape[0] = 13
    heads = 2 if "regions_class_order" in more else 3
    coarse = torch.randn(1, heads, 4, 4, 4, generator=torch.Generator().manual_seed(1)) * 3
    logits = torch.nn.functional.interpolate(coarse, size=shape, mode="trilinear")[0].half()
    return store, properties, RawDataset(target.raw).dataset_json, logits


@pytest.mark.parametrize("name", ["3d_fullres", "2d"])
@pytest.mark.parametrize("regions", [False, True])
def test_the_label_map_is_nnunets_and_the_map_is_the_entropy_of_its_probabilities(nnunet_folders, name, regions):
    more = {"labels": REGIONS, "regions_class_order": [1, 2]} if regions else {}
    store, properties, description, logits = prepared(nnunet_folders, name, **more)
    labels = store.plans_manager.get_label_manager(description)
    expected, probabilities = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits, store.plans_manager, store.configuration_manager, labels, properties, True, 1
    )
    label, uncertainty = to_original_space(CASE, logits, store, properties, description)
    assert label.shape == uncertainty.shape == tiny_target.SHAPE
    assert label.dtype == np.uint8 and np.array_equal(label, expected) and len(np.unique(label)) > 1
    as_logits = torch.from_numpy(probabilities)
    as_logits = torch.logit(as_logits.double()) if regions else as_logits.double().log()
    inside = np.s_[2:15]
    assert np.allclose(
        uncertainty[inside],
        entropy_map(as_logits)[inside] if not regions else entropy_map(as_logits, True)[inside],
        atol=2 * STEP_NATS,
    )
    assert not uncertainty[:2].any() and not uncertainty[15:].any() and uncertainty[inside].max() > 0.5


def test_label_values_above_255_are_kept(nnunet_folders):
    store, properties, description, logits = prepared(nnunet_folders)
    labels = {"background": 0} | {f"organ {n}": n for n in range(1, 301)}
    logits = torch.cat([logits, logits.new_full((298, *logits.shape[1:]), -30)])
    logits[300] = 30
    label, _ = to_original_space(CASE, logits, store, properties, {**description, "labels": labels})
    assert label.dtype == np.uint16 and label.max() == 300


def test_broken_logits_are_refused(nnunet_folders):
    store, properties, description, logits = prepared(nnunet_folders)
    logits[1, 3, 3, 3] = float("nan")
    with pytest.raises(BadCase, match=CASE):
        to_original_space(CASE, logits, store, properties, description)


def test_the_number_of_threads_is_left_as_it_was(nnunet_folders):
    store, properties, description, logits = prepared(nnunet_folders)
    before = torch.get_num_threads()
    to_original_space(CASE, logits, store, properties, description)
    assert torch.get_num_threads() == before
