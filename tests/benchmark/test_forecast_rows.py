"""The cases that ``benchmarks/forecast.py`` has looked at."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
from forecast import rows_of


def test_after_a_stop_only_the_cases_that_are_missing_are_looked_at(tmp_path: Path) -> None:
    seen, kept = [], tmp_path / "kept.csv"

    def look(case: str) -> pd.DataFrame:
        if case == "b" and not seen.count("b"):
            seen.append(case)
            raise KeyboardInterrupt
        seen.append(case)
        return pd.DataFrame({"case": case, "class": [1, 2], "dice": [0.5, None]})

    with pytest.raises(KeyboardInterrupt):
        rows_of(["a", "b", "c"], look, kept)
    rows = rows_of(["a", "b", "c"], look, kept)
    assert seen == ["a", "b", "b", "c"]
    assert rows["case"].tolist() == ["a", "a", "b", "b", "c", "c"] and rows["class"].tolist() == [1, 2] * 3
    pd.testing.assert_frame_equal(rows_of(["a", "b", "c"], look, kept), rows, check_dtype=False)
    assert len(seen) == 4
