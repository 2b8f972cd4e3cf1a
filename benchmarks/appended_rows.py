"""Rows of a long measurement in a CSV file, written as they come: after a stop, the same command measures only what is missing."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from nnunet_active.util.atomic import write_text


class AppendedRows:
    """A file of rows. A last line that was cut off is taken away.

    Args:
        file: is made where there is none.
        head: names of the columns.
        key: how many of the first columns tell what was measured.
        unique: how many of the first columns tell a row from all others, so that one that is there twice counts once.
    """

    def __init__(self, file: Path, head: Sequence[str], key: int, unique: int) -> None:
        text = file.read_text() if file.is_file() else ""
        whole = text[: text.rfind("\n") + 1] or ",".join(head) + "\n"
        if whole != text:
            write_text(file, whole)
        self.file = file
        self._rows = Counter(row[:key] for row in {tuple(row[:unique]) for row in csv.reader(whole.splitlines()[1:])})

    def has(self, *key: object, rows: int) -> bool:
        """Whether what was measured has so many rows, or more."""
        return self._rows[tuple(map(str, key))] >= rows

    def add(self, rows: Iterable[Sequence[object]]) -> None:
        """Write rows behind the others, all at once."""
        with self.file.open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(list(rows))
