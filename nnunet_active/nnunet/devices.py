"""Where a network runs: on the requested device, else on the best that this machine has.

PyTorch decides, but importing it takes seconds. A command that only prints the next step can decide without PyTorch if there is no
GPU at all, or if the NVIDIA driver is new enough.
"""

from __future__ import annotations

import ctypes
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_active.util.errors import MissingInput
from nnunet_active.util.launched import number_on_machine, processes_of_command

if TYPE_CHECKING:
    import torch

_GPU_FILES = ("/dev/nvidiactl", "/dev/nvmap", "/dev/nvgpu", "/dev/dxg", "/dev/kfd")
"""Drivers on Linux create these files: NVIDIA, NVIDIA's Tegra (two), Windows' subsystem for Linux, AMD."""


def best_device() -> str:
    """``cuda`` if PyTorch finds an NVIDIA or AMD GPU, else ``mps`` on a Mac, else ``cpu``."""
    if "torch" not in sys.modules and (known := device_without_torch()):
        return known
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def choose_device(named: str | None = None) -> torch.device:
    """The named device, or the best there is; with several GPUs, the one of this process.

    Raises:
        MissingInput: PyTorch does not find the named device.
    """
    import torch

    there = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if named in there and not there[named]():
        raise MissingInput(
            f"Give -device cpu, or leave -device out: PyTorch finds no device {named} on this machine. If there is one, "
            f"nnunet_active doctor says what it sees."
        )
    kind = named or best_device()
    if (
        kind == "cuda" and processes_of_command() > 1
    ):  # each of torchrun's processes on this machine uses a GPU of its own
        return torch.device(kind, number_on_machine() % torch.cuda.device_count())
    return torch.device(kind)


def device_without_torch() -> str | None:
    """The device that PyTorch would choose, found without PyTorch; None if only PyTorch can tell."""
    if not sys.platform.startswith("linux"):
        return None
    if not any(Path(file).exists() for file in _GPU_FILES):
        return "cpu"
    return "cuda" if _driver_fits() else None


def _driver_fits() -> bool:
    """Whether NVIDIA's driver finds a GPU and is as new as PyTorch's CUDA version."""
    found = find_spec("torch")
    version = Path(found.submodule_search_locations[0]) / "version.py" if found else Path()
    built = re.search(r"^cuda\b.*=\s*'(\d+)\.", version.read_text() if version.is_file() else "", re.MULTILINE)
    if built is None:
        return False
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        count, supported = ctypes.c_int(0), ctypes.c_int(0)
        answers = [driver.cuInit(0), driver.cuDeviceGetCount(ctypes.byref(count))]
        answers.append(driver.cuDriverGetVersion(ctypes.byref(supported)))
    except (OSError, AttributeError):
        return False
    return not any(answers) and count.value > 0 and supported.value >= int(built[1]) * 1000
