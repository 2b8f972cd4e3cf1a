"""Rounds of slices are in ``test_slice_merge``."""

from __future__ import annotations

import numpy as np

from nnunet_active.returned.handed_out import given_label


def test_a_waiting_slice_is_compared_with_what_was_handed_over_and_elsewhere_with_the_prediction():
    handed, predicted = np.array([[1, 1], [3, 3]]), np.array([[2, 2], [0, 1]])
    assert given_label(handed, predicted, 3).tolist() == [[1, 1], [0, 1]]
    assert given_label(None, predicted, 3) is predicted and given_label(handed, None, 3) is handed
