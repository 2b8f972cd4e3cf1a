"""What a checkpoint says about its training, read without its weights and usually without PyTorch, which takes seconds to import.

A checkpoint (PyTorch 1.6 and later) is a zip with one pickle; its tensors are in files of their own. This module reads only numbers,
texts, containers and NumPy's arrays from the pickle; every tensor becomes None, and no code of the file runs. Any other checkpoint
goes to :func:`~nnunet_active.nnunet.safe_checkpoint.load_checkpoint`, which reports what is wrong with it.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from nnunet_active.nnunet.plain_pickle import PlainUnpickler
from nnunet_active.util.errors import ActiveError

FINAL, LATEST, PREVIOUS = "checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_previous.pth"
"""nnU-Net's names for the finished and the current training's checkpoint; our name for a finished one before the next training."""
BEST = "checkpoint_best.pth"
"""nnU-Net's name for the checkpoint with the best validation so far."""


def damaged(where: str) -> str:
    """The beginning of a sentence about a checkpoint that cannot be read."""
    return f"{where} cannot be read, it is truncated or is not a checkpoint"


def checkpoint_record(file: Path) -> dict[str, Any]:
    """Content of a checkpoint of nnU-Net; its weights may be missing.

    Raises:
        ActiveError: as :func:`~nnunet_active.nnunet.safe_checkpoint.load_checkpoint`.
    """
    if (content := _without_weights(file)) is not None:
        return content
    if _is_cut_off(file):
        raise ActiveError(f"{damaged(str(file))}; copy it again from the trained model.")
    from nnunet_active.nnunet.safe_checkpoint import load_checkpoint  # not at the top, see the module's docstring

    return load_checkpoint(file, str(file), mmap=True)


def latest_is_newer(folder: Path) -> bool:
    """Whether a fold's latest checkpoint is from a newer training than the final one beside it.

    This happens if a kill comes between a training's first checkpoint and the renaming of the earlier training's final one. If a kill
    comes at the end of a training, before the latest checkpoint is removed, both are from one training.
    """
    final, latest = folder / FINAL, folder / LATEST
    try:
        if latest.stat().st_mtime_ns <= final.stat().st_mtime_ns:
            return False
        begun = _begun(latest)
        return begun is None or begun != _begun(final)
    except (OSError, ActiveError):  # one of them is missing or damaged
        return False


def _begun(file: Path) -> float | None:
    """When the first epoch of a checkpoint's training began; None if it has not begun."""
    log = checkpoint_record(file).get("logging")
    starts = log.get("epoch_start_timestamps") if isinstance(log, dict) else None
    return float(starts[0]) if starts else None


class _WithoutTensors(PlainUnpickler):
    """Reads every PyTorch object as None."""

    def persistent_load(self, pid: Any) -> None:
        """None for the storage of a tensor."""

    def find_class(self, module: str, name: str) -> Any:
        """Imports and calls nothing of PyTorch."""
        return _nothing if module.split(".")[0] == "torch" else super().find_class(module, name)


def _nothing(*_: Any) -> None:
    """Stands in for a tensor, a device or a type of PyTorch."""


def _is_cut_off(file: Path) -> bool:
    """Whether a file is neither a whole zip nor a pickle, the checkpoint format of PyTorch before 1.6."""
    try:
        with file.open("rb") as stream:
            return stream.read(1) != b"\x80" and not zipfile.is_zipfile(file)
    except OSError:  # the code that reads the whole file reports why it cannot be opened
        return False


def _without_weights(file: Path) -> dict[str, Any] | None:
    try:
        with zipfile.ZipFile(file) as archive:
            (pickled,) = (name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl"))
            with archive.open(pickled) as stream:
                content = _WithoutTensors(stream).load()
    except Exception:  # a damaged file may raise any error; the code that reads the whole file reports the reason
        return None
    return content if isinstance(content, dict) and isinstance(content.get("network_weights"), dict) else None
