"""Names of strategies in a user's file: ``path/to/file.py:ClassName``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

_ENDING = ".py"


def names_a_file(name: str) -> bool:
    """Whether a strategy's name refers to a file, with or without a class.

    >>> names_a_file("my/boundary.py:Boundary"), names_a_file("boundary.py"), names_a_file("entropy")
    (True, True, False)
    """
    return split_name(name)[0].endswith(_ENDING)


def split_name(name: str) -> tuple[str, str]:
    """The file and the class; the class is empty if none is named.

    >>> split_name("my/boundary.py:Boundary")
    ('my/boundary.py', 'Boundary')
    """
    file, _, class_name = (name, "", "") if name.endswith(_ENDING) else name.rpartition(":")
    return file, class_name


def found_from_anywhere(given: Any) -> Any:
    """A strategy's name, or its options with names of other strategies in them, in a form that works from any folder.

    An existing file gets its full path; everything else is returned unchanged.

    >>> found_from_anywhere({"members": ["entropy", 2.0]})
    {'members': ['entropy', 2.0]}
    """
    if isinstance(given, Mapping):
        return {found_from_anywhere(key): found_from_anywhere(value) for key, value in given.items()}
    if isinstance(given, list | tuple):
        return [found_from_anywhere(one) for one in given]
    if not isinstance(given, str) or not names_a_file(given):
        return given
    file, class_name = split_name(given)
    path = Path(file).expanduser().resolve()
    return f"{path}{class_name and f':{class_name}'}" if path.is_file() else given


def colon_separated(text: str, words: Collection[str] = ()) -> list[str]:
    """Split a text at its colons, except for the one between a file and its class.

    Args:
        text: such as ``my/boundary.py:Boundary:spread=2``.
        words: words that may follow a file without being a class.

    >>> colon_separated("my/boundary.py:Boundary:spread=2"), colon_separated("boundary.py:one_off", ["one_off"])
    (['my/boundary.py:Boundary', 'spread=2'], ['boundary.py', 'one_off'])
    """
    parts: list[str] = []
    for part in text.split(":"):
        if parts and parts[-1].endswith(_ENDING) and part.isidentifier() and part not in words:
            parts[-1] += f":{part}"
        else:
            parts.append(part)
    return parts
