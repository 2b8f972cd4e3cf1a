from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nnunet_active.scoring.jaccard import jaccard_distance

masks = st.integers(0, 6).flatmap(lambda n: st.tuples(*[arrays(bool, (n, 2))] * 3))


def iou(truth: np.ndarray, mask: np.ndarray) -> float:
    """Written down anew: |A and B| / |A or B|, 1 where both are empty."""
    truth, mask = ({*np.flatnonzero(one)} for one in (truth, mask))
    return len(truth & mask) / len(truth | mask) if truth | mask else 1.0


@given(masks)
def test_it_is_a_metric(three):
    a, b, c = three
    assert jaccard_distance(a, c) <= jaccard_distance(a, b) + jaccard_distance(b, c) + 1e-12
    assert jaccard_distance(a, b) == jaccard_distance(b, a) and 0 <= jaccard_distance(a, b) <= 1
    assert (jaccard_distance(a, b) == 0) == np.array_equal(a, b)


@given(masks)
def test_for_every_truth_two_predictions_differ_in_iou_by_at_most_their_distance(three):
    truth, adapted, source = three
    assert abs(iou(truth, adapted) - iou(truth, source)) <= jaccard_distance(adapted, source) + 1e-12


@given(st.lists(st.tuples(*[arrays(bool, 5)] * 3), min_size=1, max_size=6))
def test_the_bound_holds_for_means_over_cases(cases):
    gain = np.mean([iou(truth, adapted) - iou(truth, source) for truth, adapted, source in cases])
    assert abs(gain) <= np.mean([jaccard_distance(adapted, source) for _, adapted, source in cases]) + 1e-12


def test_the_bound_is_reached_where_the_truth_is_one_of_the_two():
    one, other = np.array([1, 1, 0, 0], bool), np.array([0, 1, 1, 1], bool)
    assert jaccard_distance(one, other) == pytest.approx(0.75) == iou(one, one) - iou(one, other)


def test_two_empty_masks_are_alike_and_an_empty_one_is_far_from_all_others():
    nothing, something = np.zeros(3, bool), np.array([0, 1, 0], bool)
    assert jaccard_distance(nothing, nothing) == 0 and jaccard_distance(nothing, something) == 1
