"""Predictions that were cut short, as on a full disk: ITK writes a part of a NIfTI file without an error, and nnU-Net's
``--continue_prediction`` would leave it for ever. Of probabilities, NumPy leaves a part with an error.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nnunet_active.data.cases import size_and_time
from nnunet_active.data.file_endings import carries_geometry
from nnunet_active.data.image_checks import count_not_finite
from nnunet_active.data.itk_files import read_itk


@contextmanager
def without_parts(files: Iterable[Path]) -> Iterator[list[Path]]:
    """Of these files, those that are written while this lasts are whole afterwards, or gone; also after an error.

    Yields:
        A list, empty until the end: those that are gone.
    """
    before = {file: size_and_time(file) if file.is_file() else None for file in files}
    gone: list[Path] = []
    try:
        yield gone
    finally:
        for file, state in before.items():
            if file.is_file() and size_and_time(file) != state and not _is_whole(file):
                file.unlink()
                gone.append(file)


def remove_parts(files: Iterable[Path]) -> list[Path]:
    """Remove those of the files that are not whole; returns them. A killed process leaves a part, and nobody else knows of it."""
    parts = [file for file in files if file.is_file() and not _is_whole(file)]
    for file in parts:
        file.unlink()
    return parts


def _is_whole(file: Path) -> bool:
    try:
        if file.suffix == ".npz":
            with zipfile.ZipFile(file) as content:
                return bool(content.namelist())  # an array is listed once it is whole
        count_not_finite(file)  # raises for NIfTI and GIPL, which ITK fills up
        if carries_geometry(file.name):
            read_itk(file)
    except Exception:  # the image libraries raise quite different things for a damaged file
        return False
    return file.stat().st_size > 0
