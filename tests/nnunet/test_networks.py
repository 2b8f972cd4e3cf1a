from __future__ import annotations

import pytest
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from tiny_source import dataset_json, plans

from nnunet_active.nnunet.networks import (
    build_network,
    find_trainer_class,
    head_names,
    stock_trainer_name,
)
from nnunet_active.util.errors import ActiveError


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"LV": 2, "background": 0, "RV": 1}, ["background", "RV", "LV"]),
        ({"background": 0, "tumour": [1], "ignore": 2}, ["background", "tumour"]),
        ({"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}, ["whole", "core"]),
    ],
)
def test_head_names_follow_nnunets_own_order_and_number(labels, expected):
    description = dataset_json(labels=labels, regions_class_order=[1, 2])
    assert head_names(plans(), description) == expected
    assert PlansManager(plans()).get_label_manager(description).num_segmentation_heads == len(expected)


def test_labels_that_nnunet_refuses_are_explained():
    with pytest.raises(ActiveError, match="Background label not declared"):
        head_names(plans(), dataset_json(labels={"tumour": 1}))
    with pytest.raises(ActiveError, match="names no labels"):
        head_names(plans(), {})


def test_plans_without_a_label_manager_or_with_a_foreign_one_use_nnunets_own():
    for changed in ({k: v for k, v in plans().items() if k != "label_manager"}, {**plans(), "label_manager": "Mine"}):
        assert head_names(changed, dataset_json()) == ["background", "oedema", "core"]


def test_an_unknown_trainer_falls_back_to_the_plans_with_a_warning():
    with pytest.warns(UserWarning, match="nnUNetTrainerNowhere was not found"):
        network = build_network(plans(), "3d_fullres", dataset_json(), "nnUNetTrainerNowhere")
    assert network(torch.zeros(1, 3, 8, 8, 8)).shape == (1, 3, 8, 8, 8)


def test_the_trainer_decides_on_the_network():
    network = build_network(plans(), "3d_fullres", dataset_json(), "nnUNetTrainerBN")
    assert any("running_mean" in key for key in network.state_dict())


def test_the_nearest_stock_trainer_is_named():
    assert find_trainer_class("nnUNetTrainer").__name__ == "nnUNetTrainer"
    assert stock_trainer_name("nnUNetTrainer_5epochs") == "nnUNetTrainer_5epochs"
    assert stock_trainer_name("nnUNetTrainerNowhere") == "nnUNetTrainer"


def test_building_a_network_leaves_the_plans_alone():
    planned, before = plans(), plans()
    build_network(planned, "3d_fullres", dataset_json(), "nnUNetTrainerBN")
    assert planned == before
