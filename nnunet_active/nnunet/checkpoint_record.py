"""What a checkpoint says of its training, read without its weights and, as a rule, without PyTorch, which takes seconds to import.

A checkpoint (PyTorch 1.6 and later) is a zip with one pickle, and its tensors lie in files of their own. From the pickle only numbers,
texts, containers and NumPy's arrays are made here; every tensor becomes None, and no code of the file is run. What is not of that kind
goes to :func:`~nnunet_active.nnunet.safe_checkpoint.load_checkpoint`, which says what is wrong with it.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from nnunet_active.nnunet.plain_pickle import PlainUnpickler
from nnunet_active.util.errors import ActiveError

FINAL, LATEST, PREVIOUS = "checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_previous.pth"
"""nnU-Net's names of the finished training's and of the current one's; ours of a finished one that makes way for the next."""
BEST = "checkpoint_best.pth"
"""nnU-Net's name of the one whose validation was the best so far."""


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
    from nnunet_active.nnunet.safe_checkpoint import load_checkpoint  # not above, see the head of this file

    return load_checkpoint(file, str(file), mmap=True)


def latest_is_newer(folder: Path) -> bool:
    """Whether the latest checkpoint of a fold is that of a newer training than the final one beside it.

    A kill may come between the first checkpoint of a training and the renaming of the earlier training's final one. Both are of one
    training where a kill comes at its end, before the latest one is removed.
    """
    final, latest = folder / FINAL, folder / LATEST
    try:
        if latest.stat().st_mtime_ns <= final.stat().st_mtime_ns:
            return False
        begun = _begun(latest)
        return begun is None or begun != _begun(final)
    except (OSError, ActiveError):  # they are not both there, or one is damaged
        return False


def _begun(file: Path) -> float | None:
    """When the first epoch of a checkpoint's training began; None: it has not."""
    log = checkpoint_record(file).get("logging")
    starts = log.get("epoch_start_timestamps") if isinstance(log, dict) else None
    return float(starts[0]) if starts else None


class _WithoutTensors(PlainUnpickler):
    """Every object of PyTorch's is None."""

    def persistent_load(self, pid: Any) -> None:
        """Storage of a tensor."""

    def find_class(self, module: str, name: str) -> Any:
        """Nothing of PyTorch is imported or called."""
        return _nothing if module.split(".")[0] == "torch" else super().find_class(module, name)


def _nothing(*_: Any) -> None:
    """In place of a tensor, a device or a type of PyTorch's."""


def _is_cut_off(file: Path) -> bool:
    """Whether a file is neither a whole zip nor a pickle, as which PyTorch wrote checkpoints before 1.6."""
    try:
        with file.open("rb") as stream:
            return stream.read(1) != b"\x80" and not zipfile.is_zipfile(file)
    except OSError:  # whoever reads it whole says why it cannot be opened
        return False


def _without_weights(file: Path) -> dict[str, Any] | None:
    try:
        with zipfile.ZipFile(file) as archive:
            (pickled,) = (name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl"))
            with archive.open(pickled) as stream:
                content = _WithoutTensors(stream).load()
    except Exception:  # a damaged file raises nearly anything; whoever reads it whole names the reason
        return None
    return content if isinstance(content, dict) and isinstance(content.get("network_weights"), dict) else None
