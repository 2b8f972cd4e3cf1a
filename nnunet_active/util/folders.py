"""All files below a folder, including folders that are only linked into it, e.g. because somebody moved one off a full disk."""

from __future__ import annotations

import os
from pathlib import Path


def files_below(folder: Path) -> list[Path]:
    """Files at any depth, sorted, including broken links; a folder that cannot be listed is skipped.

    Linked folders come last and no folder comes twice, so circular links end, and a file is listed under its real place if it has one.
    ``Path.rglob`` follows no link before Python 3.13.
    """
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    folders, links = [Path(folder)], []
    while folders or links:
        here = folders.pop() if folders else links.pop(0)
        try:
            state = os.stat(here)
            entries = [] if (state.st_dev, state.st_ino) in seen else sorted(os.scandir(here), key=lambda one: one.name)
        except OSError:
            continue
        seen.add((state.st_dev, state.st_ino))
        for entry in entries:
            if os.path.isdir(entry):
                (links if entry.is_symlink() else folders).append(here / entry.name)
            else:
                found.append(here / entry.name)
    return sorted(found)
