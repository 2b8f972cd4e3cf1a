"""Files that may be gzip-compressed whatever their name: the content decides, as in ITK."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import BinaryIO

_MAGIC = b"\x1f\x8b"


def is_packed(file: Path) -> bool:
    """Whether a file begins with gzip's signature."""
    with Path(file).open("rb") as content:
        return content.read(len(_MAGIC)) == _MAGIC


def open_unpacked(file: Path) -> BinaryIO:
    """Open a file; its content is unpacked as it is read.

    Raises:
        OSError: it cannot be opened. Reading raises gzip's and zlib's own errors if the packed content is damaged.
    """
    return gzip.open(file) if is_packed(file) else Path(file).open("rb")
