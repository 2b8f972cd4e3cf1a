"""Label files that are about to be replaced are kept; files that nobody has touched are known by place, size and time."""

from __future__ import annotations

import os
from datetime import datetime
from hashlib import blake2b
from pathlib import Path

from nnunet_active.util.atomic import copy_file


def keep_copy(file: Path, folder: Path, case: str, ending: str) -> Path:
    """Keep a file that is about to be replaced, once, under a name that tells when it was made and what is in it."""
    digest = blake2b(file.read_bytes(), digest_size=4).hexdigest()
    made = datetime.fromtimestamp(file.stat().st_mtime)
    for earlier in folder.glob(f"*__{digest}{ending}"):
        if earlier.name.startswith(f"{case}__"):
            return earlier
    kept = folder / f"{case}__{made:%Y%m%d_%H%M%S}__{digest}{ending}"
    copy_file(file, kept)
    return kept


def place_of(file: Path) -> str:
    """By which a file is known, however its folder is named: by a relative path, or through links. A link is a file of its own."""
    file = Path(file)
    return str(file.parent.resolve() / file.name)


def is_same_place(one: Path, other: Path) -> bool:
    """Whether two paths name one file."""
    return place_of(one) == place_of(other)


def file_state(file: Path) -> list[int]:
    """Size and modification time, by which a file that has not been touched is known."""
    state = os.stat(file)
    return [state.st_size, state.st_mtime_ns]
