"""Tables as Markdown."""

from __future__ import annotations

import pandas as pd

from nnunet_active.benchmark.markdown import as_markdown


def test_numbers_are_right_aligned_rounded_and_dashes_where_there_are_none():
    table = pd.DataFrame({"way": ["mmacts"], "Dice": [0.12345], "p": [float("nan")], "runs": [3]})
    assert as_markdown(table).splitlines() == [
        "| way | Dice | p | runs |",
        "| --- | ---: | ---: | ---: |",
        "| mmacts | 0.123 | – | 3 |",
    ]


def test_a_bar_in_a_name_does_not_make_another_column():
    (row,) = as_markdown(pd.DataFrame({"way": ["a|b"]})).splitlines()[2:]
    assert row == "| a\\|b |"
