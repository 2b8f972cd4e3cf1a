"""Where a network runs: the device that was asked for, else the best that this machine has."""

from __future__ import annotations

import torch

from nnunet_active.util.errors import MissingInput


def best_device() -> str:
    """``cuda`` where PyTorch finds a GPU of NVIDIA or AMD, else ``mps`` on a Mac, else ``cpu``."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def choose_device(named: str | None = None) -> torch.device:
    """The device that was named, or the best there is.

    Raises:
        MissingInput: PyTorch does not find the named one.
    """
    there = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if named in there and not there[named]():
        raise MissingInput(
            f"Give -device cpu, or leave -device away: PyTorch finds no device {named} on this machine. If there is one, "
            f"nnunet_active doctor says what it sees."
        )
    return torch.device(named or best_device())
