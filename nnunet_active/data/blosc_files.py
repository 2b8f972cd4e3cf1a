"""The compressed arrays that nnU-Net keeps (``.b2nd``), with one thread per process.

nnU-Net forks its data loaders, and blosc2's threads do not survive a fork: a process that has used them leaves children that wait for
ever. nnU-Net itself works with one thread per process, too. Whoever needs blosc2 imports it from here.
"""

from __future__ import annotations

from pathlib import Path

import blosc2
import numpy as np

__all__ = ["blosc2", "open_b2nd", "read_b2nd"]

blosc2.set_nthreads(1)


def open_b2nd(file: Path) -> blosc2.NDArray:
    """The array in a file, of which only what is asked for will be read; a damaged file raises whatever blosc2 makes of it."""
    return blosc2.open(str(file), mode="r", dparams={"nthreads": 1})


def read_b2nd(file: Path) -> np.ndarray:
    """The same array, whole, as it is stored."""
    return open_b2nd(file)[:]
