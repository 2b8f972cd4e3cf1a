from __future__ import annotations

import numpy as np
import pytest

from nnunet_active.forecast.outlook import EARLY, ON, PAYS, STOP, outlook


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ([], EARLY),
        ([0.3, 0.3], EARLY),
        ([0.3, 0.3, np.nan], EARLY),
        ([0.3, 0.2, -0.1], ON),
        ([PAYS] * 3, ON),
        ([0.01] * 3, STOP),
        ([-0.2, 0.0, 0.1], STOP),
    ],
)
def test_three_cases_decide_and_fewer_do_not(gains, verdict):
    assert outlook(np.array(gains)).verdict == verdict


def test_the_mean_and_its_interval_by_hand():
    found = outlook(np.array([0.1, 0.3, 0.2, np.nan]))
    half = 2.919986 * 0.1 / np.sqrt(3)
    assert (found.gain, found.low, found.high) == pytest.approx((0.2, 0.2 - half, 0.2 + half), abs=1e-6)
    assert found.cases == 3


def test_every_verdict_is_said_in_words():
    assert outlook(np.array([])).lines()[0].startswith("Too early to say")
    assert outlook(np.array([0.4])).lines()[0].endswith("there is 1.")
    assert outlook(np.array([0.1, 0.2, 0.3])).lines()[0].startswith("Label on. On 3 cases")
    assert outlook(np.array([0.0, -0.2, 0.1])).lines()[0].startswith("Stop: the next labels will not pay. On 3 cases")
