"""The order in which the windows of an image are processed, so that few logits are held at once.

The buffer of logits is as deep as the patch. If even that does not fit, the volume is processed in blocks along the second axis. A
block begins where a window begins, so each further block repeats one row of windows. That costs a few passes, but needs no second
buffer, and no copies between device and host as in nnU-Net's own fallback.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

SLAB_VOXELS = 2**18  # of a slab on a CPU: the values computed for each voxel then stay in the cache
# At most this many voxels and logits: enough to keep a GPU busy, and about 1 GiB in all.
SLAB_ON_A_GPU = (2**22, 2**26)


class Step(NamedTuple):
    """Windows to run (nnU-Net's slicers); after them the slices from ``first`` up to ``stop`` of the first axis are finished."""

    windows: list[tuple]
    first: int
    stop: int


@dataclass(frozen=True)
class Layout:
    """How the windows of one image are processed; all shapes are those of the padded image.

    Attributes:
        windows: nnU-Net's slicers, sorted along the first axis.
        shape: (Z, Y, X).
        inside: where the image lies in the padded one, three slices.
        heads: output channels C.
        depth: slices of the first axis that the buffer holds.
        blocks: (start, stop) of every block of the second axis.
        slab_voxels: about how many voxels are passed on at once, at least a slice.
        windows_per_pass: windows that go through the network together.
    """

    windows: Sequence[tuple]
    shape: tuple[int, int, int]
    inside: tuple[slice, slice, slice]
    heads: int
    depth: int
    blocks: tuple[tuple[int, int], ...]
    slab_voxels: int
    windows_per_pass: int = 1

    def steps(self, block: tuple[int, int]) -> Iterator[Step]:
        """The windows that touch a block, in steps, and which slices each step finishes."""
        touching = [window for window in self.windows if window[2].start < block[1] and window[2].stop > block[0]]
        todo: list[tuple] = []
        done = 0
        for (start, stop), row in groupby(touching, lambda window: extent_of(window[1])):
            if stop - done > self.depth:
                yield Step(todo, done, start)
                todo, done = [], start
            todo = [*todo, *row]
        yield Step(todo, done, self.shape[0])

    def batches(self, windows: list[tuple], block: tuple[int, int]) -> Iterator[tuple[list[tuple], bool]]:
        """Windows that go through the network together, and whether an earlier block has already run them."""
        for repeated, some in groupby(windows, lambda window: window[2].start < block[0]):
            alike = list(some)
            while alike:  # powers of two only, because cuDNN tries its algorithms anew for every new batch size
                n = 1 << (min(self.windows_per_pass, len(alike)).bit_length() - 1)
                yield alike[:n], repeated
                alike = alike[n:]


def extent_of(index: int | slice) -> tuple[int, int]:
    """Start and stop of a slicer's entry; a 2-D window gives its slice as a number."""
    return (index.start, index.stop) if isinstance(index, slice) else (index, index + 1)


def lay_out(
    windows: Sequence[tuple],
    shape: tuple[int, int, int],
    inside: tuple[slice, slice, slice],
    heads: int,
    room: int | None,
    on_a_gpu: bool = False,
    windows_per_pass: int = 1,
) -> Layout:
    """The layout whose buffer needs at most ``room`` bytes, as far as possible; one block if everything fits.

    Args:
        windows, shape, inside, heads, windows_per_pass: see :class:`Layout`.
        room: bytes for the buffer of one pass; None for no limit.
        on_a_gpu: whether the buffer is on a GPU, where larger slabs are faster.
    """
    slice_voxels = shape[1] * shape[2]
    slab_voxels = min(SLAB_ON_A_GPU[0], SLAB_ON_A_GPU[1] // heads) if on_a_gpu else SLAB_VOXELS
    deep = max(stop - start for start, stop in (extent_of(window[1]) for window in windows))
    if deep == 1:  # a 2-D network: as many slices as are passed on at once
        deep = max(1, min(shape[0], slab_voxels // slice_voxels))
    most = shape[1] if room is None else room // (2 * (heads + 1) * deep * shape[2])
    starts = sorted({window[2].start for window in windows})
    blocks, begin = [], 0
    while begin < shape[1]:
        ends = [end for end in (*starts, shape[1]) if end > begin]
        fitting = [end for end in ends if end - begin <= most]
        end = fitting[-1] if fitting else ends[0]
        blocks.append((begin, end))
        begin = end
    return Layout(windows, shape, inside, heads, deep, tuple(blocks), slab_voxels, windows_per_pass)
