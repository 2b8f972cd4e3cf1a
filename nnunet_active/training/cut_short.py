"""Predictions that were cut short, as on a full disk: ITK writes a part of a NIfTI file without an error, and nnU-Net's
``--continue_prediction`` would leave it for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import SimpleITK as sitk

from nnunet_active.data.file_endings import carries_geometry
from nnunet_active.data.image_checks import count_not_finite


@contextmanager
def without_parts(files: Iterable[Path]) -> Iterator[list[Path]]:
    """Of these files, those that are written while this lasts are whole afterwards, or gone; also after an error.

    Yields:
        A list, empty until the end: those that are gone.
    """
    before = {file: _state(file) for file in files}
    gone: list[Path] = []
    try:
        yield gone
    finally:
        for file, state in before.items():
            if file.is_file() and _state(file) != state and not _is_whole(file):
                file.unlink()
                gone.append(file)


def _state(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _is_whole(file: Path) -> bool:
    try:
        count_not_finite(file)  # raises for NIfTI and GIPL, which ITK fills up
        if carries_geometry(file.name):
            sitk.ReadImage(str(file))
    except Exception:  # the image libraries raise quite different things for a damaged file
        return False
    return file.stat().st_size > 0
