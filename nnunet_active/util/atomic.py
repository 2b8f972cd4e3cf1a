"""Writes that succeed as a whole or not at all: temporary file in the same folder, fsync, rename.

A kill at any moment leaves either the old content or the new, never half of it. Temporary names begin with a dot
and end with ``.tmp``, so that nnU-Net, which goes by file endings, never reads one as data. They name the process that made them, so
:func:`sweep` can tell the leftovers of a killed process from the work of a live one, and remove them.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

_REPLACED = "_replaced"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

UNWRITTEN = {
    "inline_container.cc": "A checkpoint",
    "PytorchStreamWriter": "A checkpoint",
    "Error while creating the NDArray": "A preprocessed case",
    "failed to write": "An image",
    "_nrrdGz": "An image",
    "No space left on device": "An image",
    "File too large": "An image",
}
"""What libraries without an error class for a full disk say in their ``RuntimeError`` -> what they were writing."""

_TEMPORARY = re.compile(r"\..+\.(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-\w+\.tmp")


@cache
def _machine() -> str:
    """Identifies this host and its space of process numbers (a container has its own)."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return hashlib.sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:8]


def _prefix(path: Path) -> str:
    # a name may have 255 bytes, and part of the target's name is enough for people to recognise it
    name = path.name.encode()[:150].decode(errors="ignore")
    return f".{name}.{_machine()}-{os.getpid()}-"


def temporary_beside(path: Path) -> Path:
    """A new folder beside ``path``, named after it; the caller removes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=path.parent, prefix=_prefix(path), suffix=".tmp"))


def temporary_name(path: Path) -> Path:
    """A temporary name beside ``path``, for callers that write the file themselves and then rename it."""
    return path.with_name(f"{_prefix(path)}0.tmp")


@contextmanager
def naming_full_disk(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let the error of a full disk name ``path``, unless it names a file: there may be several disks, and few libraries say which."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _NO_ROOM:
            error.filename = str(path)
        raise
    except RuntimeError as error:
        if any(sign in str(error) for sign in UNWRITTEN):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise


@contextmanager
def temporary_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a folder beside ``path``, named after it, and remove it afterwards."""
    temporary = temporary_beside(Path(path))
    try:
        with naming_full_disk(path):
            yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sweep(*folders: str | os.PathLike[str]) -> list[Path]:
    """Remove the temporary files and folders, at any depth, of this machine's processes that have ended.

    If one of them had moved a folder away to replace it, that folder is put back first.

    Returns:
        What was removed.
    """
    gone: list[Path] = []
    for root in folders:
        for folder, names, files in os.walk(root):
            for name in (*names, *files):
                if _is_left_over(name):
                    path = Path(folder, name)
                    if name in names:
                        names.remove(name)
                        _put_back(path)
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        path.unlink(missing_ok=True)
                    gone.append(path)
    return gone


def without_temporary(file: str | os.PathLike[str]) -> Path:
    """For our temporary file or folder, and for what is in it, the folder around it, which people know; any other file unchanged."""
    file = Path(file)
    return next((one.parent for one in reversed([file, *file.parents]) if _TEMPORARY.fullmatch(one.name)), file)


def _is_left_over(name: str) -> bool:
    match = _TEMPORARY.fullmatch(name)
    return match is not None and match["machine"] == _machine() and not _lives(int(match["process"]))


def _lives(process: int) -> bool:
    if os.name == "nt":  # os.kill would end the process there
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's process
        return True
    return True


def _fsync_folder(folder: Path) -> None:
    """Make a rename durable. Windows cannot open folders, so there the rename alone must do."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_file(path: str | os.PathLike[str], private: bool = False) -> Iterator[Path]:
    """Yield a temporary path. On success it replaces ``path`` in one step; on any error it is removed.

    Args:
        path: the file.
        private: only its owner may read it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path), suffix=".tmp")
    os.close(descriptor)
    temporary = Path(name)
    try:
        with naming_full_disk(path):
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        # mkstemp makes files that only their owner can read, but a shared campaign needs the usual permissions
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o600 if private else 0o666 & ~umask)
        os.replace(temporary, path)
        _fsync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``path`` in one step on success; ``path`` must not exist yet."""
    path = Path(path)
    with temporary_folder(path) as temporary:
        yield temporary
        for content in temporary.rglob("*"):
            if content.is_file() and not content.is_symlink():  # a link's target is not ours to touch
                with content.open("rb+") as file:
                    os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o777 & ~umask)
        os.rename(temporary, path)
        _fsync_folder(path.parent)


@contextmanager
def replaced_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder that replaces ``path`` on success, even if that folder exists.

    Two folders cannot be exchanged in one step: for a moment neither is there. A kill in that moment leaves both whole, and the next
    :func:`sweep` puts the old one back.
    """
    path = Path(path)
    with temporary_folder(path) as scratch:
        with atomic_folder(scratch / "new") as new:
            yield new
        (scratch / _REPLACED).mkdir()
        try:
            if path.exists():
                os.rename(path, scratch / _REPLACED / path.name)
            os.rename(scratch / "new", path)
        except BaseException:
            _put_back(scratch)
            raise
        _fsync_folder(path.parent)


def _put_back(scratch: Path) -> None:
    """Move a folder kept in a temporary folder back to its place, unless something else is there by now."""
    for old in (scratch / _REPLACED).glob("*"):
        place = scratch.parent / old.name
        if not place.exists():
            os.rename(old, place)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Replace a text file in one step (UTF-8)."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Replace a JSON file in one step; indented as in nnU-Net, keys in the order given."""
    write_text(path, json.dumps(content, indent=4) + "\n")


def copy_file(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Copy a file so that the target is whole or absent; keeps the modification time."""
    with atomic_file(target) as temporary:
        shutil.copy2(source, temporary)
