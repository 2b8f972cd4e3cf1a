"""Surface Dice and HD95 on shapes whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from nnunet_active.benchmark.surfaces import available, surface_metrics

pytestmark = pytest.mark.skipif(not available(), reason="needs MONAI")


def cube(offset: int = 0) -> np.ndarray:
    mask = np.zeros((12, 20, 20), dtype=bool)
    mask[3:9, 5 + offset : 13 + offset, 5:13] = True
    return mask


def test_the_same_shape_is_perfect():
    assert surface_metrics(cube(), cube(), (1, 1, 1), 1.0) == (1.0, 0.0)


def test_a_shift_within_the_tolerance_costs_nothing_and_its_distance_is_in_mm():
    dice, distance = surface_metrics(cube(), cube(2), (3.0, 1.5, 1.5), 3.1)
    assert dice == pytest.approx(1.0) and distance == pytest.approx(3.0)
    assert surface_metrics(cube(), cube(2), (3.0, 1.5, 1.5), 0.5)[0] < 0.9


def test_an_empty_mask_scores_nothing_and_two_empty_ones_do_not_count():
    empty = np.zeros_like(cube())
    dice, distance = surface_metrics(cube(), empty, (1, 1, 1), 1.0)
    assert dice == 0 and np.isnan(distance)
    assert all(np.isnan(value) for value in surface_metrics(empty, empty, (1, 1, 1), 1.0))


def test_a_shape_at_the_border_is_measured_as_well():
    mask = np.zeros((4, 6, 6), dtype=bool)
    mask[:, :3] = True
    assert surface_metrics(mask, mask, (1, 1, 1), 1.0) == (1.0, 0.0)


def test_in_a_picture_the_outline_is_the_surface():
    y, x = np.mgrid[:80, :80]
    far = np.hypot(y - 40, x - 40)
    large, small = far[None] <= 30, far[None] <= 20
    dice, distance = surface_metrics(large, small, (999.0, 1.0, 1.0), 2.0)
    assert dice == 0 and distance == pytest.approx(10, abs=0.5)
    assert surface_metrics(large, large, (999.0, 1.0, 1.0), 0.0) == (1.0, 0.0)
