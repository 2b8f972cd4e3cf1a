from __future__ import annotations

import numpy as np
import pytest

from nnunet_active.data.dataset_json import class_masks
from nnunet_active.data.label_agreement import compare, dice, is_accepted
from nnunet_active.util.errors import BadCase

LABELS = {"background": 0, "oedema": 1, "core": 2}


def row(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.uint8).reshape(1, 1, -1)


def test_dice_against_numbers_worked_out_by_hand():
    found = compare(row(1, 1, 2, 0, 0), row(1, 2, 2, 2, 0), LABELS, 2.5)
    assert found["dice"] == {"oedema": 2 * 1 / 3, "core": 2 * 1 / 4}
    assert found["volume_label_mm3"] == {"oedema": 5.0, "core": 2.5}
    assert found["volume_predicted_mm3"] == {"oedema": 2.5, "core": 7.5}
    assert found["changed_voxels"] == 2


def test_a_class_that_is_nowhere_has_no_dice_and_one_that_was_missed_has_zero():
    found = compare(row(1, 0), row(0, 0), LABELS, 1.0)
    assert found["dice"] == {"oedema": 0.0, "core": None}


def test_regions_are_compared_as_regions():
    labels = {"background": 0, "whole": [1, 2], "core": [2]}
    assert compare(row(1, 2, 0), row(2, 2, 0), labels, 1.0)["dice"] == {"whole": 1.0, "core": 2 / 3}


def test_voxels_that_the_annotator_ignored_do_not_count():
    labels = {**LABELS, "ignore": 3}
    found = compare(row(1, 3, 3, 0), row(1, 1, 0, 0), labels, 1.0)
    assert found["dice"]["oedema"] == 1.0 and found["changed_voxels"] == 0
    assert found["volume_predicted_mm3"]["oedema"] == found["volume_label_mm3"]["oedema"] == 1.0
    assert "ignore" not in class_masks(row(3), labels)


def test_without_a_prediction_only_volumes_are_known():
    assert compare(row(1), None, LABELS, 1.0) == {
        "dice": {},
        "volume_predicted_mm3": {},
        "volume_label_mm3": {"oedema": 1.0, "core": 0.0},
        "changed_voxels": None,
    }


def test_other_shapes_are_refused():
    with pytest.raises(BadCase, match="cannot be compared"):
        compare(row(1), row(1, 1), LABELS, 1.0)
    assert dice(row(0) > 0, row(0) > 0) is None


def test_a_label_is_accepted_where_no_counted_voxel_was_changed():
    label = np.zeros((2, 3, 4), dtype=np.uint8)
    label[0, 0] = 1
    changed = label.copy()
    changed[1, 1, 1] = 1
    labels = {"background": 0, "tumour": 1}
    assert is_accepted(compare(label, label, labels, 1.0))
    assert not is_accepted(compare(changed, label, labels, 1.0))
    assert not is_accepted(compare(label, None, labels, 1.0)) and not is_accepted({})
