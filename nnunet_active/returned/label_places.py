"""Recognises untouched label files by place, size and time."""

from __future__ import annotations

from pathlib import Path

from nnunet_active.data.cases import size_and_time


def place_of(file: Path) -> str:
    """The key of a file: its path with relative parts and linked folders resolved. A file that is a link counts as a separate file."""
    file = Path(file)
    return str(file.parent.resolve() / file.name)


def is_same_place(one: Path, other: Path) -> bool:
    """Whether two paths name the same file."""
    return place_of(one) == place_of(other)


def is_as_recorded(file: Path, entry: list) -> bool:
    """Whether a file has the size and time with which a record's entry begins; an empty entry fits no file."""
    return entry[:2] == file_state(file)


def file_state(file: Path) -> list[int]:
    """As :func:`~nnunet_active.data.cases.size_and_time`, as JSON gives it back."""
    return [*size_and_time(file)]
