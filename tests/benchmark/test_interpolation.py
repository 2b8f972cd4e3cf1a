"""What the gate would have taken on stored networks: from earlier requests alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import interpolation


def test_the_replayed_gate_knows_only_the_requests_of_earlier_rounds():
    # labels: what 0.75 gains on the test cases, and on the case asked for next
    gains = {1: (0.1, 0.5), 2: (0.2, 0.5), 3: (0.4, None)}
    run = {"dataset": "a", "fold": 0, "arm": "random", "seed": 0}
    rows = pd.DataFrame(
        {
            **run,
            "labels": labels,
            "alpha": alpha,
            "dice": 0.5 + alpha * test,
            "next_dice": coming and 0.5 + alpha * coming,
        }
        for labels, (test, coming) in gains.items()
        for alpha in (0.0, 0.25, 0.5, 0.75, 1.0)
    )
    found = interpolation.replayed(rows).set_index("labels")
    assert found["alpha"].tolist() == [
        0.25,
        0.75,
        0.75,
    ]  # nobody has judged yet; then gains of 0.375 and, a quarter of the way, 0.125; halved, both are above 0.05
    assert found["source"].tolist() == [0.5] * 3
    assert found["guarded"].tolist() == pytest.approx([0.525, 0.65, 0.8])
    assert found["three_quarters"].tolist() == pytest.approx([0.575, 0.65, 0.8])
    (means,) = interpolation.guarded(rows)["mean"].to_dict("records")
    assert means == pytest.approx({"guarded": 0.475 / 3, "three_quarters": 0.525 / 3})
