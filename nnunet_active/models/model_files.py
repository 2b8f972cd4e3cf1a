"""Finds a trained nnU-Net (in a model folder, a folder of them, or the zip of ``nnUNetv2_export_model_to_zip``), and chooses the
model, fold and checkpoint in it.

A zip is never extracted under its own names: the few members needed are copied one by one under names of ours to a
temporary folder, so a member called ``../../x`` cannot reach anything.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from nnunet_active.util.errors import ActiveError, MissingInput

FOLD = re.compile(r"fold_(\d+|all)")
"""Names of the folders that hold a fold's checkpoints."""
DEFAULT_CHECKPOINT = "checkpoint_final.pth"
FALLBACK_CHECKPOINTS = ("checkpoint_best.pth", "checkpoint_latest.pth")
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

    def folders(self) -> list[str]:
        """Names of the folders, models or not."""
        return sorted(child.name for child in self.root.iterdir() if child.is_dir())

    def read(self, model: str, name: str) -> bytes | None:
        """Content of a small file of a model, or None."""
        file = self.root / model / name
        return file.read_bytes() if file.is_file() else None

    @contextlib.contextmanager
    def local_file(self, model: str, name: str) -> Iterator[Path]:
        """Path of a large file of a model on this machine, valid inside the ``with`` block."""
        yield self.root / model / name

    def describe(self, model: str, name: str) -> str:
        """A file's name in messages."""
        return str(self.root / model / name)


def _of_macos(info: zipfile.ZipInfo) -> bool:
    """Whether a member is what the Finder adds to every file."""
    path = PurePosixPath(info.filename)
    return "__MACOSX" in path.parts or path.name.startswith("._")


class ZipStore:
    """The same for a zip; members are read or copied one by one, never extracted under their own names."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            with zipfile.ZipFile(file) as archive:
                self.members = {info.filename for info in archive.infolist() if not (info.is_dir() or _of_macos(info))}
        except (zipfile.BadZipFile, OSError) as error:
            raise ActiveError(
                f"{file} is neither a model folder nor a readable zip ({error}); copy it again."
            ) from error

    def models(self) -> list[str]:
        """Names of the trained models, sorted: folders with a checkpoint; if there are none, those with plans."""
        members = [PurePosixPath(name) for name in self.members]
        trained = {one.parent.parent for one in members if one.suffix == ".pth" and FOLD.fullmatch(one.parent.name)}
        # nnU-Net's export with predictions of the cross-validation has plans beside these, too
        found = trained or {one.parent for one in members if one.name == "plans.json"}
        return sorted("" if str(name) == "." else str(name) for name in found)

    def folds(self, model: str) -> dict[str, list[str]]:
        """Folds that have a checkpoint, by number, ``all`` last, each with its checkpoints' file names."""
        found: dict[str, list[str]] = {}
        for name in sorted(self.members):
            member = PurePosixPath(name)
            match = FOLD.fullmatch(member.parent.name)
            if match and member.suffix == ".pth" and member.parent.parent == PurePosixPath(model):
                found.setdefault(match[1], []).append(member.name)
        return _in_order(found)

    def folders(self) -> list[str]:
        """Names of the folders, models or not."""
        return sorted({str(PurePosixPath(name).parent) for name in self.members} - {"."})

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
        """A file's name in messages."""
        return f"{self.file}:{PurePosixPath(model) / name}"


def _in_order(found: dict[str, list[str]]) -> dict[str, list[str]]:
    """Folds in order of their numbers, ``all`` last."""
    return {
        key: found[key] for key in sorted(found, key=lambda fold: (fold == "all", int(fold) if fold != "all" else 0))
    }


def choose_model(store: FolderStore | ZipStore, configuration: str | None) -> str:
    """Name of the one model folder that matches.

    Raises:
        MissingInput: none exists, none has this configuration, or several match.
    """
    models = store.models()
    if not models and any(store.read(folder, "plans.pkl") is not None for folder in ("", *store.folders())):
        raise MissingInput(
            f"{store.describe('', '')} holds a model of nnU-Net v1, which v2 cannot read; train the source with v2."
        )
    if not models:
        raise MissingInput(
            f"No trained model was found in {store.describe('', '')}; expected a folder with plans.json, dataset.json and "
            f"fold_X/{DEFAULT_CHECKPOINT}, such as nnUNetTrainer__nnUNetPlans__3d_fullres."
        )
    if len(models) == 1:
        return models[0]
    fitting = [name for name in models if configuration is None or name.endswith(f"__{configuration}")]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(PurePosixPath(name).name or "." for name in fitting or models)
    if not fitting:
        raise MissingInput(
            f"{store.describe('', '')} holds no model for the configuration {configuration}; found: {names}."
        )
    raise MissingInput(
        f"{store.describe('', '')} holds several models ({names}); choose the configuration with -c, or give one of these "
        f"folders itself with -m."
    )


def read_json(store: FolderStore | ZipStore, model: str, name: str, required: bool) -> Any:
    """A JSON object beside the folds of a model; None if it is missing and not ``required``.

    Raises:
        MissingInput: it is missing but required.
        ActiveError: it is no JSON object.
    """
    content = store.read(model, name)
    where = store.describe(model, name)
    if content is None:
        if not required:
            return None
        raise MissingInput(
            f"{where} was not found; a trained nnU-Net model has it beside its fold_X folders, copy it there."
        )
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ActiveError(f"{where} is not valid JSON ({error}); copy it again from the trained model.") from error
    if not isinstance(parsed, dict):
        raise ActiveError(f"{where} holds a {type(parsed).__name__} where an object was expected; copy it again.")
    return parsed


def choose_fold(
    store: FolderStore | ZipStore,
    model: str,
    found: dict[str, list[str]],
    fold: str | int | None,
    checkpoint: str,
    notes: list[str],
) -> tuple[str, str]:
    """Fold and checkpoint to read: the lowest fold that has the checkpoint; the default checkpoint has substitutes.

    Args:
        store, model: where the model is, for messages.
        found: checkpoints by fold, in order of preference.
        fold: the requested fold, if any.
        checkpoint: file name.
        notes: receives sentences about the choices made.

    Raises:
        MissingInput: there is no such fold or checkpoint.
    """
    where = store.describe(model, "")
    if not found:
        raise MissingInput(f"{where} has no fold_X folder with a checkpoint; train the source model or copy it there.")
    if fold is not None and str(fold) not in found:
        raise MissingInput(f"{where} has no checkpoint for fold {fold}; folds found: {', '.join(found)}.")
    candidates = list(found) if fold is None else [str(fold)]
    wanted = (checkpoint, *(FALLBACK_CHECKPOINTS if checkpoint == DEFAULT_CHECKPOINT else ()))
    for name in wanted:
        for candidate in candidates:
            if name in found[candidate]:
                if fold is None and len(found) > 1:
                    notes.append(
                        f"Folds found: {', '.join(found)}; fold {candidate} is taken (another: select --model-folds, "
                        f"init --source-fold, plan -f)."
                    )
                if name != checkpoint:
                    notes.append(f"fold_{candidate} has no {checkpoint}; {name} is taken in its place.")
                return candidate, name
    there = "; ".join(f"fold_{candidate}: {', '.join(found[candidate])}" for candidate in candidates)
    raise MissingInput(f"{where} has no {checkpoint}; found {there}; choose one with -chk.")
