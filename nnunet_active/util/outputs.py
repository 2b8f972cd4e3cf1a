"""An output named with ``-o`` never replaces a file that this package did not write as that output; replaced outputs are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

from nnunet_active.util.errors import ActiveError


def name_aside(folder: Path) -> Path:
    """An unused name ``FOLDER_until_DATE``, under which a folder can be kept so that a new one can begin."""
    kept = folder.with_name(f"{folder.name}_until_{datetime.now():%Y%m%d_%H%M%S}")
    while kept.exists():
        kept = kept.with_name(kept.name + "_")
    return kept


def keep_aside(folder: Path) -> Path:
    """Rename a folder (see :func:`name_aside`); returns its new path."""
    kept = name_aside(folder)
    folder.rename(kept)
    return kept


def check_output_file(file: Path, is_ours: Callable[[Path], bool], what: str) -> None:
    """Refuse to overwrite somebody else's file.

    Args:
        file: the file to write.
        is_ours: whether an existing file is an earlier output of this kind; it may raise any error.
        what: the kind, for people: ``a report``.

    Raises:
        ActiveError: a folder or another file has that name.
    """
    if not file.exists() and not file.is_symlink():
        return
    if file.is_dir():
        raise ActiveError(f"{file} is a folder; name a file with -o.")
    try:
        ours = file.is_file() and is_ours(file)
    except Exception:  # its reader may raise any error for a file of another kind
        ours = False
    if not ours:
        raise ActiveError(
            f"{file} is there and is not {what} of nnunet_active, so it is not replaced; name another file with -o, or move it away."
        )


def check_output_folder(folder: Path, is_ours: Callable[[Path], bool], names: Iterable[str], what: str) -> None:
    """Refuse to write files into a folder if they would replace somebody else's.

    Args:
        folder: where to write; need not exist.
        is_ours: whether a folder is an earlier output of this kind.
        names: the files to write.
        what: what the folder is, for people: ``a hand-off folder``.

    Raises:
        ActiveError: a file of that name exists and the folder is not such a folder; or the folder is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ActiveError(f"{folder} is a file; name a folder with -o.")
    if folder.is_dir() and is_ours(folder):
        return
    if there := [name for name in names if (folder / name).exists()]:
        raise ActiveError(
            f"{folder} holds {', '.join(there)} and is not {what} of nnunet_active, so that nothing is written there; name another "
            f"folder with -o."
        )


def begins_with(mark: str, within: int = 4096) -> Callable[[Path], bool]:
    """A test whether a mark stands near the beginning of a file; False if the file does not exist."""

    def look(file: Path) -> bool:
        if not file.is_file():
            return False
        with file.open("rb") as content:
            return mark.encode() in content.read(within)

    return look
