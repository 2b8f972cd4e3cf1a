"""What the curves of other pairs say of the next label, and of when to stop."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
from forecast_next_label import predictions, weights
from forecast_stopping import left_out


def curves(pair: str, gains: list[float], share: float) -> pd.DataFrame:
    """Steps after which the next gain is a share of the last."""
    last = np.array(gains)
    return pd.DataFrame({"pair": pair, "file": pair, "labels": 1, "last": last, "so_far": last, "next": share * last})


def test_a_share_that_other_pairs_agree_on_is_found_and_zero_halves_and_means_are_what_they_say() -> None:
    known = pd.concat([curves("a", [0.1, 0.3], 0.4), curves("b", [0.2, 0.2, -0.1, 0.5], 0.4)])
    here = curves("c", [0.05, 0.2], 0.4)
    found = predictions(known, here, 1)
    for name in ("share", "line"):
        assert found[name] == pytest.approx(here["next"]), name
    assert found["power"] == pytest.approx(here["next"], abs=0.01)
    assert found["half"].tolist() == [0.025, 0.1] and found["nothing"].tolist() == [0, 0]
    assert found["mean"] == pytest.approx([0.4 * 0.2] * 2)  # both pairs have a mean gain of 0.2


def test_pairs_count_alike_whatever_the_number_of_their_curves() -> None:
    known = pd.concat([curves("a", [0.1], 1), curves("b", [0.2] * 5, 1)])
    assert weights(known) == pytest.approx([1, *[0.2] * 5])


def test_a_threshold_that_loses_on_one_pair_is_not_used_on_the_other() -> None:
    at = {"labels": 4, "cases": 3, "saved": 1}
    table = pd.DataFrame(
        [
            {"curves": "a_long", "signal": 0.03, "lost": 0.2, **at},
            {"curves": "a", "signal": 0.3, "lost": 0.2, **at},
            {"curves": "b", "signal": 0.03, "lost": 0.0, **at},
        ]
    )
    rows = {row["curves"]: row for row in left_out(table)}
    assert rows["b"]["threshold"] == 0.02 and rows["b"]["stopped"] == 0
    assert rows["a"]["threshold"] == 0.08 and rows["a"]["stopped"] == 1 and rows["a"]["lost"] == 0.2
    assert rows["all"]["stopped"] == 1 and rows["all"]["of"] == 3
