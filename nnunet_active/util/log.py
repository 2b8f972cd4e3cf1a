"""How functions report their progress to people: one line at a time."""

from __future__ import annotations

from collections.abc import Callable

Log = Callable[[str], None]


def silent(text: str) -> None:
    """A :data:`Log` that discards its lines."""
