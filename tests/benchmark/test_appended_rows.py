"""Rows that a long measurement appends to a file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
from appended_rows import AppendedRows

HEAD = ["pair", "seed", "alpha", "dice"]


def rows_in(file: Path) -> AppendedRows:
    return AppendedRows(file, HEAD, 2, 3)


def test_what_was_written_is_known_to_the_next_one(tmp_path):
    file = tmp_path / "rows.csv"
    rows_in(file).add([["a", 0, 0.5, 0.1], ["a", 0, 1.0, 0.2]])
    assert file.read_text() == "pair,seed,alpha,dice\na,0,0.5,0.1\na,0,1.0,0.2\n"
    rows = rows_in(file)
    assert rows.has("a", 0, rows=2) and not rows.has("a", 0, rows=3) and not rows.has("a", 1, rows=1)


@pytest.mark.parametrize("cut", [1, 5, 11])
def test_a_line_that_was_cut_off_is_taken_away_and_does_not_count(tmp_path, cut):
    file = tmp_path / "rows.csv"
    rows_in(file).add([["a", 0, 0.5, 0.1], ["a", 0, 1.0, 0.2]])
    file.write_text(file.read_text()[:-cut])
    assert not rows_in(file).has("a", 0, rows=2)
    rows_in(file).add([["a", 0, 1.0, 0.2]])
    assert rows_in(file).has("a", 0, rows=2)
    assert file.read_text().endswith("\na,0,0.5,0.1\na,0,1.0,0.2\n")


def test_a_row_that_is_there_twice_counts_once(tmp_path):
    rows_in(tmp_path / "rows.csv").add([["a", 0, 0.5, 0.1]] * 2)
    assert not rows_in(tmp_path / "rows.csv").has("a", 0, rows=2)


def test_a_header_that_was_cut_off_is_written_again(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("pair,se")
    rows_in(file)
    assert file.read_text() == "pair,seed,alpha,dice\n"
