from __future__ import annotations

import numpy as np
import pytest

from nnunet_active.rounds.time_budget import AnnotationTime, SliceMinutes, count_objects
from nnunet_active.util.errors import ActiveError


def test_minutes_are_the_sum_of_base_objects_and_volume():
    assert AnnotationTime(base=4, per_object=3, per_cm3=0.5).minutes(objects=2, cm3=10) == 4 + 3 * 2 + 0.5 * 10
    assert AnnotationTime().minutes(objects=0, cm3=0) == AnnotationTime().base


def test_a_volume_that_is_not_known_counts_as_none():
    assert AnnotationTime(base=4, per_object=3, per_cm3=1).minutes(objects=1, cm3=float("nan")) == 7


@pytest.mark.parametrize("values", [(-1, 0, 1), (0, 0, 0), (float("nan"), 1, 1), (float("inf"), 1, 1)])
def test_impossible_minutes_are_refused(values):
    with pytest.raises(ActiveError, match="minutes per case"):
        AnnotationTime(*values)


@pytest.mark.parametrize("values", [(-1, 1), (1, 0), (float("nan"), 1), (1, float("inf"))])
def test_impossible_minutes_of_slices_are_refused(values):
    assert SliceMinutes(0, 0.5).minutes(4) == 2
    with pytest.raises(ActiveError, match="minutes for opening a case"):
        SliceMinutes(*values)


def test_objects_that_touch_at_a_corner_are_one_and_classes_are_counted_apart():
    labels = np.zeros((3, 4, 6), np.int16)
    labels[0, 0, 0] = labels[1, 1, 1] = 1  # corner to corner
    labels[2, 3, 5] = 1
    labels[1, 1, 2] = 2  # touches an object of class 1
    assert count_objects(labels, 1.0, 0.0) == 3


def test_specks_are_not_counted():
    labels = np.zeros((1, 5, 9), np.int16)
    labels[0, 0, :4] = labels[0, 4, 8] = 1
    assert count_objects(labels, voxel_mm3=3.0, smallest_mm3=10.0) == 1
    assert count_objects(labels, voxel_mm3=10.0, smallest_mm3=10.0) == 2


def test_regions_are_masks_of_their_own():
    masks = np.zeros((2, 1, 4, 4), bool)
    masks[0, 0, :3] = True
    masks[1, 0, 0, 0] = masks[1, 0, 2, 2] = True
    assert count_objects(masks, 1.0, 0.0) == 3


def test_an_empty_prediction_has_no_object():
    assert count_objects(np.zeros((2, 3, 4), np.int16), 1.0) == 0
