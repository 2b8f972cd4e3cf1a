"""Names in messages."""

from __future__ import annotations

from collections.abc import Sequence


def first_names(names: Sequence[str], count: int = 5) -> str:
    """The first names, and the total if there are more.

    >>> first_names(["a", "b", "c"], 2)
    'a, b ... (3 in all)'
    """
    return ", ".join(map(str, names[:count])) + (f" ... ({len(names)} in all)" if len(names) > count else "")
