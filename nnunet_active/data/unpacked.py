"""Files that may be packed with gzip whatever they are called: the content decides, as for ITK."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import BinaryIO

_MAGIC = b"\x1f\x8b"


def is_packed(file: Path) -> bool:
    """Whether a file begins as gzip's do."""
    with Path(file).open("rb") as content:
        return content.read(len(_MAGIC)) == _MAGIC


def open_unpacked(file: Path) -> BinaryIO:
    """Its content, unpacked as it is read.

    Raises:
        OSError: it cannot be opened. Reading raises gzip's and zlib's own errors where the packed content is damaged.
    """
    return gzip.open(file) if is_packed(file) else Path(file).open("rb")
