"""What is noted of a training: its weights, and how good its pseudo-labels were."""

from __future__ import annotations

import pandas as pd
import pytest

from nnunet_active.benchmark.recorded_training import judged_pseudo_labels, recorded
from nnunet_active.trainers.nnUNetTrainerActive import nnUNetTrainerActive


def test_a_recorded_trainer_is_the_trainer_under_the_same_name():
    made = recorded(nnUNetTrainerActive)
    assert made.__name__ == "nnUNetTrainerActive" and issubclass(made, nnUNetTrainerActive)


def test_a_candidates_dice_is_the_mean_over_the_classes_that_are_there():
    table = pd.DataFrame(
        {"confidence": [0.9, 0.4], "distance": [0.1, 0.2], "foreground_voxels": [50, 0], "reliable": [True, False]},
        index=pd.Index(["a", "b"], name="case"),
    )
    measured = pd.DataFrame(
        {"case": ["a", "a", "b", "b"], "class": ["x", "y"] * 2, "dice": [0.5, 1.0, 0.25, float("nan")]}
    )
    rows = judged_pseudo_labels(table, measured)
    assert [(row["case"], row["reliable"]) for row in rows] == [("a", True), ("b", False)]
    assert [row["dice"] for row in rows] == pytest.approx([0.75, 0.25])


def test_a_candidate_without_any_class_has_no_dice():
    table = pd.DataFrame(
        {"confidence": [0.9], "distance": [0.1], "foreground_voxels": [0], "reliable": [False]},
        index=pd.Index(["a"], name="case"),
    )
    (row,) = judged_pseudo_labels(table, pd.DataFrame({"case": ["a"], "class": ["x"], "dice": [float("nan")]}))
    assert row["dice"] is None
