from __future__ import annotations

import json
from copy import deepcopy

import pytest
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from tiny_dataset import make_plans

from nnunet_active.data.plans import configuration_of, fingerprint_of, read_plans, read_plans_file
from nnunet_active.util.errors import MissingInput


def test_plans_are_read_as_they_are(nnunet_folders):
    folder = nnunet_folders / "nnUNet_preprocessed" / "Dataset902_X"
    folder.mkdir()
    plans = {**make_plans(), "dataset_name": "Dataset902_X"}
    (folder / f"{plans['plans_name']}.json").write_text(json.dumps(plans))
    assert read_plans("Dataset902_X", plans["plans_name"]) == json.loads(json.dumps(plans))


def test_plans_of_another_data_set_are_refused_since_nnunet_would_train_there(nnunet_folders):
    folder = nnunet_folders / "nnUNet_preprocessed" / "Dataset902_X"
    folder.mkdir()
    plans = {**make_plans(), "dataset_name": "Dataset900_Other"}
    (folder / f"{plans['plans_name']}.json").write_text(json.dumps(plans))
    with pytest.raises(MissingInput, match=r"belongs to Dataset900_Other .* nnUNetv2_move_plans_between_datasets"):
        read_plans("Dataset902_X", plans["plans_name"])


@pytest.mark.parametrize("name", ["per_channel", "by_modality"])
def test_the_intensities_of_old_plans_are_found_under_their_old_name(name):
    plans = make_plans()
    found = plans.pop("foreground_intensity_properties_per_channel")
    key = "foreground_intensity_properties_per_channel"
    assert fingerprint_of({**plans, f"foreground_intensity_properties_{name}": found})[key] == found


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda plans: "{", "EOF"),
        (lambda plans: [], "input should be"),
        (lambda plans: {}, "field required"),
        (lambda plans: {**plans, "configurations": []}, "configurations"),
        (lambda plans: {**plans, "configurations": {"2d": None}}, "configurations.2d"),
        (lambda plans: {**plans, "configurations": {"x": {"inherits_from": "nobody"}}}, "nobody"),
        (
            lambda plans: {
                **plans,
                "configurations": {
                    name: {**one, "inherits_from": name} for name, one in plans["configurations"].items()
                },
            },
            "inherits from itself",
        ),
        (
            lambda plans: {
                **plans,
                "configurations": {
                    name: {key: value for key, value in one.items() if key != "architecture"}
                    for name, one in plans["configurations"].items()
                },
            },
            "architecture: field required",
        ),
        (lambda plans: {**plans, "transpose_forward": "012"}, "transpose_forward"),
        (
            lambda plans: {
                **plans,
                "configurations": {
                    name: {**one, "spacing": [1, "x", 1]} for name, one in plans["configurations"].items()
                },
            },
            r"configurations\.\w+\.spacing\.1: 'x'",
        ),
    ],
)
def test_damaged_plans_are_named_with_what_was_found(tmp_path, damage, reason):
    file = tmp_path / "plans.json"
    damaged = damage(make_plans())
    file.write_text(damaged if isinstance(damaged, str) else json.dumps(damaged))
    with pytest.raises(
        MissingInput, match=rf"plans\.json is not a plans file of nnU-Net's \(.*{reason}.*; make it again"
    ):
        read_plans_file(file)


def test_a_configuration_inherits_as_in_nnunet():
    plans = make_plans()
    name, base = next(iter(plans["configurations"].items()))
    plans["configurations"]["finer"] = {"inherits_from": name, "spacing": [0.5] * len(base["spacing"])}
    plans["configurations"]["larger"] = {"inherits_from": "finer", "batch_size": 9}
    for one in plans["configurations"]:
        found, stock = configuration_of(plans, one), PlansManager(deepcopy(plans)).get_configuration(one).configuration
        assert found == stock
