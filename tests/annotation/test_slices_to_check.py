from __future__ import annotations

import numpy as np

from nnunet_active.annotation.slices_to_check import NEAR, worth_looking

ISO = (1.0, 1.0, 1.0)


def scene() -> tuple[np.ndarray, np.ndarray]:
    prediction = np.zeros((20, 30, 40), dtype=np.uint8)
    prediction[5:15, 10:20, 15:30] = 1
    return prediction, np.zeros(prediction.shape, dtype=np.float32)


def test_the_slices_with_most_uncertainty_come_first_and_not_side_by_side():
    prediction, uncertainty = scene()
    uncertainty[6, 12:18, 16:26] = 0.5  # z = 6
    uncertainty[7, 12:18, 16:26] = 0.45  # its neighbour says the same
    uncertainty[12, 12:18, 16:26] = 0.4
    found = worth_looking(prediction, uncertainty, ISO)
    assert found.slices[2][:2] == (6, 12) and 7 not in found.slices[2]


def test_uncertainty_far_from_the_prediction_does_not_count():
    prediction, uncertainty = scene()
    uncertainty[18:, 25:, 35:] = 1
    uncertainty[10, 9 - NEAR + 1, 20] = 0.2
    found = worth_looking(prediction, uncertainty, ISO)
    assert found.slices == ((20,), (9 - NEAR + 1,), (10,))
    assert np.abs(np.subtract(found.voxel, (20, 9 - NEAR + 1, 10))).max() <= 3


def test_the_place_is_a_neighbourhood_and_no_single_voxel():
    prediction, uncertainty = scene()
    uncertainty[6, 11, 16] = 0.69
    uncertainty[11:14, 15:18, 22:25] = 0.4
    found = worth_looking(prediction, uncertainty, (2.0, 2.0, 2.0))
    assert found.voxel == (23, 16, 12) and np.isclose(found.nats, 0.4)


def test_where_nothing_is_predicted_the_whole_scan_counts():
    prediction, uncertainty = scene()
    uncertainty[1, 2, 3] = 0.3
    found = worth_looking(np.zeros_like(prediction), uncertainty, (7.0, 7.0, 7.0))
    assert found.voxel == (3, 2, 1) and found.slices == ((3,), (2,), (1,))


def test_a_certain_case_has_no_slices_and_still_a_place_in_the_prediction():
    prediction, uncertainty = scene()
    found = worth_looking(prediction, uncertainty, ISO)
    assert found.slices == ((), (), ()) and found.nats == 0
    assert all(0 <= n < size for n, size in zip(found.voxel, (40, 30, 20), strict=True))


def test_predictions_at_the_border_and_single_slices_are_no_problem():
    prediction = np.zeros((1, 5, 5), dtype=np.uint8)
    prediction[0, 0, 0] = prediction[0, 4, 4] = 3
    uncertainty = np.full((1, 5, 5), 0.1, dtype=np.float32)
    uncertainty[0, 4, 3] = 0.6
    found = worth_looking(prediction, uncertainty, (6.0, 6.0, 1.0))
    assert found.voxel == (3, 4, 0) and found.slices[2] == (0,)
