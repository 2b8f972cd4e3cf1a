"""Where a trained nnU-Net lies: a model folder, a folder of them, or the zip of ``nnUNetv2_export_model_to_zip``.

A zip is never extracted by its own names: the few members that are needed are copied one by one to a name of ours in a
temporary folder, so that a member called ``../../x`` cannot reach anything.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from nnunet_active.util.errors import ActiveError

FOLD = re.compile(r"fold_(\d+|all)")
"""Names of the folders that hold a fold's checkpoints."""
_UNREADABLE = (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError)  # RuntimeError: encrypted


class FolderStore:
    """A model folder, or a folder of model folders. A model is named by its path below ``root``; '' is the root itself."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def models(self) -> list[str]:
        """Names of the trained models, sorted."""
        if (self.root / "plans.json").is_file() or self.folds(""):
            return [""]
        children = sorted(child for child in self.root.iterdir() if child.is_dir() and not child.name.startswith("."))
        return [child.name for child in children if (child / "plans.json").is_file() or self.folds(child.name)]

    def folds(self, model: str) -> dict[str, list[str]]:
        """Folds that have a checkpoint, by number, ``all`` last, each with its checkpoints' file names."""
        found = {}
        for child in (self.root / model).glob("fold_*"):
            match = FOLD.fullmatch(child.name)
            checkpoints = sorted(file.name for file in child.glob("*.pth")) if match else []
            if match and checkpoints:
                found[match[1]] = checkpoints
        return _in_order(found)

    def read(self, model: str, name: str) -> bytes | None:
        """Content of a small file of a model, or None."""
        file = self.root / model / name
        return file.read_bytes() if file.is_file() else None

    @contextlib.contextmanager
    def local_file(self, model: str, name: str) -> Iterator[Path]:
        """Path of a large file of a model on this machine, valid inside the ``with`` block."""
        yield self.root / model / name

    def describe(self, model: str, name: str) -> str:
        """How messages call a file of a model."""
        return str(self.root / model / name)


class ZipStore:
    """The same for a zip; members are read or copied one by one and never extracted under their own names."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            with zipfile.ZipFile(file) as archive:
                self.members = {info.filename for info in archive.infolist() if not info.is_dir()}
        except (zipfile.BadZipFile, OSError) as error:
            raise ActiveError(
                f"{file} is neither a model folder nor a readable zip ({error}); copy it again."
            ) from error

    def models(self) -> list[str]:
        """Names of the trained models, sorted."""
        found = set()
        for name in self.members:
            member = PurePosixPath(name)
            if member.name == "plans.json":
                found.add(str(member.parent))
            elif member.suffix == ".pth" and FOLD.fullmatch(member.parent.name):
                found.add(str(member.parent.parent))
        return sorted("" if name == "." else name for name in found)

    def folds(self, model: str) -> dict[str, list[str]]:
        """Folds that have a checkpoint, by number, ``all`` last, each with its checkpoints' file names."""
        found: dict[str, list[str]] = {}
        for name in sorted(self.members):
            member = PurePosixPath(name)
            match = FOLD.fullmatch(member.parent.name)
            if match and member.suffix == ".pth" and member.parent.parent == PurePosixPath(model):
                found.setdefault(match[1], []).append(member.name)
        return _in_order(found)

    def read(self, model: str, name: str) -> bytes | None:
        """Content of a small file of a model, or None."""
        member = str(PurePosixPath(model) / name)
        if member not in self.members:
            return None
        try:
            with zipfile.ZipFile(self.file) as archive:
                return archive.read(member)
        except _UNREADABLE as error:
            raise ActiveError(f"{self.describe(model, name)} cannot be read ({error}); copy the zip again.") from error

    @contextlib.contextmanager
    def local_file(self, model: str, name: str) -> Iterator[Path]:
        """Path of a large file of a model on this machine, valid inside the ``with`` block."""
        with tempfile.TemporaryDirectory(prefix="nnunet_active_") as folder:
            target = Path(folder) / "checkpoint.pth"
            try:
                with (
                    zipfile.ZipFile(self.file) as archive,
                    archive.open(str(PurePosixPath(model) / name)) as member,
                    target.open("wb") as copy,
                ):
                    shutil.copyfileobj(member, copy)
            except _UNREADABLE as error:
                raise ActiveError(
                    f"{self.describe(model, name)} cannot be read ({error}); copy the zip again."
                ) from error
            yield target

    def describe(self, model: str, name: str) -> str:
        """How messages call a file of a model."""
        return f"{self.file}:{PurePosixPath(model) / name}"


def _in_order(found: dict[str, list[str]]) -> dict[str, list[str]]:
    """Folds by number, ``all`` last."""
    return {
        key: found[key] for key in sorted(found, key=lambda fold: (fold == "all", int(fold) if fold != "all" else 0))
    }
