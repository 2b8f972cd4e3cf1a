from __future__ import annotations

import json

import pytest

from nnunet_active.rounds.step import NextStep


def test_only_a_training_has_costs():
    why = ("Labels are there.", "The training takes long.")
    assert NextStep("train", "nnUNetv2_train", why).costs == why[1:]
    assert NextStep("label", "nnunet_active ingest", why).costs == ()


@pytest.mark.parametrize(
    ("kind", "command", "said"),
    [
        ("ingest", "nnunet_active ingest", "Next: nnunet_active ingest"),
        ("wait", "", "There is nothing to do until it ends."),
        ("done", "", "Nothing is left to do."),
    ],
)
def test_a_step_is_told_with_its_reasons_and_what_else_makes_sense(kind, command, said):
    step = NextStep(kind, command, ("Why.",), (("to see more", "nnunet_active status"),), {"round": 1}, "It is better.")
    assert step.lines() == ["It is better.", "", "Why.", "", said, "  or, to see more: nnunet_active status"]
    assert json.loads(json.dumps(step.to_json())) == step.to_json() and step.to_json()["state"] == {"round": 1}
