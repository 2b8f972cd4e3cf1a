"""The compressed arrays that nnU-Net keeps (``.b2nd``), with one thread per process.

nnU-Net forks its data loaders, and blosc2's threads do not survive a fork: if a process has used them, its children wait for
ever. nnU-Net itself works with one thread per process, too. Every module that needs blosc2 imports it from here.

`read_b2nd` reads a whole array without Python's lock. Slicing a blosc2 array holds the lock throughout, so reading ahead that way
would keep the main thread from feeding the GPU (on an NVIDIA H200, that took a fifth of the scoring time).
"""

from __future__ import annotations

from pathlib import Path

import blosc2
import numpy as np

__all__ = ["blosc2", "open_b2nd", "read_b2nd"]

blosc2.set_nthreads(1)
blosc2.set_releasegil(True)


def open_b2nd(file: Path) -> blosc2.NDArray:
    """Open the array in a file; only the parts asked for are read. A damaged file raises whatever blosc2 raises."""
    return blosc2.open(str(file), mode="r", dparams={"nthreads": 1})


def read_b2nd(file: Path) -> np.ndarray:
    """Read the same array as a whole, as it is stored.

    Chunks are unpacked one by one; an unpacked chunk holds its blocks one after the other, each in C order, the last ones padded.
    """
    stored = open_b2nd(file)
    shape, chunk, block = (np.array(lengths) for lengths in (stored.shape, stored.chunks, stored.blocks))
    whole = np.empty(stored.shape, stored.dtype)
    if not whole.size:
        return whole
    blocks = -(-chunk // block)
    unpacked = np.empty((*blocks, *block), stored.dtype)
    order = [axis + inner for axis in range(len(shape)) for inner in (0, len(shape))]
    for number, index in enumerate(np.ndindex(*-(-shape // chunk))):
        blosc2.decompress2(stored.schunk.get_chunk(number), dst=unpacked)
        start = index * chunk
        stop = np.minimum(start + chunk, shape)
        in_order = unpacked.transpose(order).reshape(blocks * block)
        whole[tuple(map(slice, start, stop))] = in_order[tuple(map(slice, stop - start))]
    return whole
