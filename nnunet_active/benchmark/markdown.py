"""Tables as Markdown (pandas' own ``to_markdown`` needs another package)."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd


def cell_text(value: Any) -> str:
    """The text of a cell: floats with three digits, missing values as a dash.

    >>> cell_text(0.12345), cell_text(float("nan")), cell_text(3)
    ('0.123', '–', '3')
    """
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.3f}"
    return str(value)


def as_markdown(table: pd.DataFrame) -> str:
    """A table with a header; numbers are aligned to the right."""
    head = [str(name) for name in table.columns]
    rows = [[cell_text(value).replace("|", "\\|") for value in row] for row in table.itertuples(index=False)]
    rule = ["---:" if pd.api.types.is_numeric_dtype(kind) else "---" for kind in table.dtypes]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *rows])
