"""Tables for spreadsheets, in which no cell is read as a formula.

Excel, LibreOffice and Google Sheets compute a cell of a CSV file that begins with ``=``, ``+``, ``-`` or ``@`` (or with a tab or a
line break before it), wherever the text came from: a channel name, a label, a note. A leading apostrophe makes it text
(OWASP, CSV injection); :func:`read_csv` removes it again. Numbers stay numbers.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_active.util.atomic import write_text

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = re.compile(r"[=+\-@\t\n]")
_ESCAPED = re.compile(r"'+[=+\-@\t\n]")


def csv_text(table: pd.DataFrame, index_label: str | None = None) -> str:
    """A table as CSV.

    Args:
        table: any types; texts are made safe, including header and index.
        index_label: name of the index column; None leaves the index out.

    >>> import pandas as pd
    >>> csv_text(pd.DataFrame({"note": ["=1+1", "fine"], "dice": [-0.5, 1.0]}))
    "note,dice\\n'=1+1,-0.5\\nfine,1.0\\n"
    """
    safe = table.rename(index=_as_text, columns=_as_text).map(_as_text)
    return safe.to_csv(index=index_label is not None, index_label=index_label, lineterminator="\n")


def write_csv(file: Path, table: pd.DataFrame, index_label: str | None = None) -> None:
    """Write the same to a file, in one step."""
    write_text(file, csv_text(table, index_label))


def read_csv(file: Path, **how: Any) -> pd.DataFrame:
    """Read a table from :func:`write_csv`. Only an empty cell counts as missing; pandas would also drop a case named NA.

    Args:
        file: the table.
        how: further arguments of :func:`pandas.read_csv`.

    Raises:
        OSError, ValueError: it does not exist, or is no table.
    """
    import pandas as pd  # not at the top: many commands read no table, and the import takes half a second

    settings = {"keep_default_na": False, "na_values": [""], "float_precision": "round_trip", **how}
    table = pd.read_csv(file, encoding="utf-8", **settings)
    return table.rename(columns=_as_it_was).map(_as_it_was)


def _as_text(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    value = value.replace("\r\n", "\n").replace("\r", "\n")  # readers take a carriage return for the end of a row
    return f"'{value}" if _FORMULA.match(value) or _ESCAPED.match(value) else value


def _as_it_was(value: Any) -> Any:
    return value[1:] if isinstance(value, str) and _ESCAPED.match(value) else value
