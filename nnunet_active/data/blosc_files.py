"""The compressed arrays that nnU-Net keeps (``.b2nd``), with one thread per process.

nnU-Net forks its data loaders, and blosc2's threads do not survive a fork: a process that has used them leaves children that wait for
ever. nnU-Net itself works with one thread per process, too. Whoever needs blosc2 imports it from here.

A whole array is read without Python's lock, which blosc2's own slices hold from their begin to their end: one that was read ahead
would keep the main thread from telling a GPU what comes next (on an NVIDIA H200, a fifth of the time that scoring took).
"""

from __future__ import annotations

from pathlib import Path

import blosc2
import numpy as np

__all__ = ["blosc2", "open_b2nd", "read_b2nd"]

blosc2.set_nthreads(1)
blosc2.set_releasegil(True)


def open_b2nd(file: Path) -> blosc2.NDArray:
    """The array in a file, of which only what is asked for will be read; a damaged file raises whatever blosc2 makes of it."""
    return blosc2.open(str(file), mode="r", dparams={"nthreads": 1})


def read_b2nd(file: Path) -> np.ndarray:
    """The same array, whole, as it is stored.

    Its chunks are unpacked one by one; in an unpacked chunk one block follows the other, each in C order, the last ones padded.
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
