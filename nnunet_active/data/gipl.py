"""Detects truncated GIPL files: ITK reads them without an error and fills the missing part with whatever is in memory."""

from __future__ import annotations

import math
import struct
from pathlib import Path

from nnunet_active.data.unpacked import open_unpacked

ENDINGS = (".gipl", ".gipl.gz")
_HEADER = 256  # bytes; all numbers are big-endian
_SIZE_OF_TYPE = {1: 1, 7: 1, 8: 1, 15: 2, 16: 2, 64: 4, 65: 8}
"""Bytes per voxel by the type's number, as in ITK's ``GiplImageIO``."""


def check_gipl_is_whole(file: Path) -> None:
    """Raise if a GIPL file has fewer bytes than its header says (four uint16 for the size, one for the type of a voxel).

    Unknown types pass; the code that reads the file deals with them.

    Raises:
        ValueError: it ends too early.
        OSError, EOFError: it cannot be read, or its compressed stream ends too early.
    """
    with open_unpacked(file) as content:
        header = content.read(_HEADER)
        if len(header) < _HEADER:
            raise ValueError("the file ends within its header")
        *size, kind = struct.unpack(">5H", header[:10])
        wanted = math.prod(max(one, 1) for one in size) * _SIZE_OF_TYPE.get(kind, 0)
        there = 0
        while there < wanted and (part := content.read(1 << 24)):
            there += len(part)
    if there < wanted:
        raise ValueError(f"the file ends after {there} of {wanted} bytes of voxels")
