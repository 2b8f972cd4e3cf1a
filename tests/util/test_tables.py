from __future__ import annotations

import csv

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_active.util.tables import csv_text, read_csv, write_csv

HOSTILE = ["=HYPERLINK(1)", "+1", "-2+3", "@SUM(A1)", "\t=1", "\n=1", "'=1", "''=1"]


@pytest.mark.parametrize("cell", HOSTILE)
def test_no_cell_is_taken_for_a_formula_and_every_one_comes_back(tmp_path, cell):
    file = tmp_path / "table.csv"
    table = pd.DataFrame({cell: [cell, "fine"], "number": [-1.5, 2.0]}, index=[cell, "b"])
    write_csv(file, table, index_label="case")
    with file.open(encoding="utf-8", newline="") as stream:
        cells = [one for row in csv.reader(stream) for one in row]
    assert not [one for one in cells if one[0] in "=+@\t\n" or (one[0] == "-" and one != "-1.5")]
    found = read_csv(file)
    assert found.columns.tolist() == ["case", cell, "number"]
    assert found[cell].tolist() == [*found["case"].tolist()[:1], "fine"] == [cell, "fine"]
    assert found["number"].tolist() == [-1.5, 2.0]


@settings(deadline=None)
@given(
    st.lists(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\r"), min_size=1), min_size=1)
)
def test_any_text_comes_back(tmp_path_factory, texts):
    file = tmp_path_factory.mktemp("tables") / "table.csv"
    write_csv(file, pd.DataFrame({"text": texts}))
    assert read_csv(file, dtype=str)["text"].tolist() == texts


def test_numbers_and_ordinary_texts_stay_as_they_are():
    table = pd.DataFrame({"case": ["a"], "value": [-0.25], "none": [None]})
    assert csv_text(table) == "case,value,none\na,-0.25,\n"


def test_a_carriage_return_becomes_a_line_break(tmp_path):
    write_csv(tmp_path / "table.csv", pd.DataFrame({"text": ["a\r\nb", "\r=1"]}))
    assert read_csv(tmp_path / "table.csv")["text"].tolist() == ["a\nb", "\n=1"]
