from __future__ import annotations

import json

import pytest
from tiny_dataset import make_plans

from nnunet_active.data.plans import read_plans, read_plans_file
from nnunet_active.util.errors import MissingInput


def test_plans_are_read_as_they_are(nnunet_folders):
    folder = nnunet_folders / "nnUNet_preprocessed" / "Dataset902_X"
    folder.mkdir()
    plans = make_plans()
    (folder / f"{plans['plans_name']}.json").write_text(json.dumps(plans))
    assert read_plans("Dataset902_X", plans["plans_name"]) == json.loads(json.dumps(plans))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda plans: "{", "EOF"),
        (lambda plans: [], "input should be"),
        (lambda plans: {}, "field required"),
        (lambda plans: {**plans, "configurations": []}, "configurations"),
        (lambda plans: {**plans, "configurations": {"2d": None}}, "configurations.2d"),
        (lambda plans: {**plans, "configurations": {"x": {"inherits_from": "nobody"}}}, "nobody"),
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
