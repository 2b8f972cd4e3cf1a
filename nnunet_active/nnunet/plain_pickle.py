"""Read the properties that nnU-Net keeps beside a preprocessed case (``CASE.pkl``) without running code from them.

A pickle can run code. These files hold numbers, texts, lists, dictionaries and NumPy arrays, so nothing else is read here.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),
}


class PlainUnpickler(pickle.Unpickler):
    """Unpickles numbers, texts, containers and arrays."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse everything else, because it would be imported and perhaps called."""
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, which is neither a number nor an array")
        return super().find_class(module, name)


def read_properties(file: Path) -> dict[str, Any]:
    """Content of a ``CASE.pkl``.

    Raises:
        ValueError: it is damaged, holds anything but numbers, texts and arrays, or is no dictionary.
        OSError: it cannot be read.
    """
    try:
        with Path(file).open("rb") as stream:
            content = PlainUnpickler(stream).load()
    except OSError:
        raise
    except Exception as error:  # a damaged pickle may raise any error
        raise ValueError(f"{file} cannot be read ({error or type(error).__name__})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds no properties of a case")
    return content
