"""Read a checkpoint from somebody else without running code from it, if possible.

A checkpoint is a pickle, and a pickle can run code. So it is first read with ``weights_only=True``. NumPy's scalars and plain
arrays are also allowed, because every ordinary nnU-Net checkpoint holds some in its log.
"""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnunet_active.nnunet.checkpoint_record import damaged
from nnunet_active.util.errors import ActiveError, IncompatibleSource, UnsafeCheckpoint


def _numpy_globals() -> list[Any]:
    """What nnU-Net's own log of Dice and loss values needs: NumPy scalars and plain numeric arrays, which run no code."""
    scalar = type(np.float32(0)).__reduce__(np.float32(0))[0]
    rebuild = np.zeros(1).__reduce__()[0]
    allowed: list[Any] = [np.ndarray, np.dtype]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):  # NumPy 1 and 2 write different names
        allowed += [(scalar, f"{module}.scalar"), (rebuild, f"{module}._reconstruct")]
    numbers = (np.bool_, *(np.dtype(code).type for code in "bhilqBHILQefd"))
    return allowed + [type(np.dtype(number)) for number in dict.fromkeys(numbers)]


_TRUST = "if you trust where the file comes from, repeat with --trust-checkpoint"


def load_checkpoint(
    file: Path, where: str, trust: bool = False, mmap: bool = False, advice: str = _TRUST
) -> dict[str, Any]:
    """Read a checkpoint of nnU-Net onto the CPU.

    Args:
        file: the checkpoint.
        where: its name in messages (it may come from a zip).
        trust: if ``weights_only=True`` refuses, use the full pickle, which can run code stored in the file.
        advice: what to do about a file that holds other objects.
        mmap: leave the tensors in the file until they are used, for callers that want the rest; needs PyTorch 1.6's format.

    Raises:
        UnsafeCheckpoint: the file holds objects other than tensors, numbers and text, and ``trust`` is False.
        ActiveError: the file is damaged, or is not a checkpoint of nnU-Net v2.
    """
    broken = f"{damaged(where)}; copy it again from the trained model"
    try:
        with torch.serialization.safe_globals(_numpy_globals()):
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        foreign = _foreign_objects(file, str(error))
        if not foreign:
            raise ActiveError(f"{broken}.") from error
        if not trust:
            raise UnsafeCheckpoint(
                f"{where} holds objects other than weights and numbers ({foreign}), and reading them can run code that "
                f"its author put there; {advice}."
            ) from error
        content = _load_trusted(file, where)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise ActiveError(
            f"{broken} ({str(error).splitlines()[0] if str(error) else type(error).__name__})."
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("network_weights"), dict):
        raise ActiveError(f'{where} is not a checkpoint of nnU-Net v2: it holds no "network_weights".')
    return content


def _foreign_objects(file: Path, message: str) -> str:
    """Names of the objects that ``weights_only`` refused; empty if the file is only damaged."""
    with contextlib.suppress(Exception), torch.serialization.safe_globals(_numpy_globals()):
        names = torch.serialization.get_unsafe_globals_in_checkpoint(file)
        return ", ".join(sorted(names)[:5])
    match = re.search(r"GLOBAL ([\w.]+)", message)  # checkpoints in the format from before PyTorch 1.6
    return match[1] if match else ""


def _load_trusted(file: Path, where: str) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=False)
    except Exception as error:  # it runs foreign code, which may raise any error
        raise ActiveError(f"{where} cannot be read ({type(error).__name__}: {error}).") from error


def network_weights(content: dict, where: str) -> dict[str, Tensor]:
    """The state dict of a checkpoint, without the prefixes of DDP and ``torch.compile``; makes sure that it holds finite tensors."""
    weights = {re.sub(r"^((module|_orig_mod)\.)+", "", key): value for key, value in content["network_weights"].items()}
    if not weights or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ActiveError(f'{where} is not a checkpoint of nnU-Net v2: its "network_weights" are not tensors.')
    for key, value in weights.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise IncompatibleSource(
                f"{where} holds NaN or infinite weights ({key}): its training diverged; use another."
            )
    return weights


def weights_digest(weights: dict[str, Tensor]) -> str:
    """Fingerprint of a state dict (blake2b, 16 bytes, hexadecimal): covers keys and values, not how a file stores them."""
    digest = hashlib.blake2b(digest_size=16)
    for key in sorted(weights):
        digest.update(key.encode())
        digest.update(weights[key].detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
