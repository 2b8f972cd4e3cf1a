"""nnU-Net's sliding window, handed on slab by slab: the logits of a whole volume are never held.

The windows come in nnU-Net's own order, sorted along the first axis, and are added up in half precision with nnU-Net's Gaussian. As
soon as no later window touches a slice of the first axis, the slice is divided by its weights and handed on, and its memory is used
again. So the buffer is as deep as the patch, not as the volume. Every voxel sees the same additions in the same order as in
``nnUNetPredictor.predict_sliding_window_return_logits``: the numbers are the same, bit for bit on a CPU with one window per pass.

Where even that buffer does not fit, the volume is worked off in blocks of the second axis, one after the other. A block is cut
where a window begins, so each further block repeats one row of windows. That costs a few passes, but needs no second place to hold
logits, and no copies between device and host as nnU-Net's own way out does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

SLAB_VOXELS = 2**18
"""Voxels of a slab on a CPU: what is computed of each voxel then stays in the cache."""
SLAB_ELEMENTS_ON_A_GPU = 2**26
"""Logits of a slab on a GPU: enough to keep it busy, and a small part of its memory (256 MiB in single precision)."""


class Slab(NamedTuple):
    """Logits (C, n, r, X) of some slices of the first axis; the memory is used again after the next one is asked for.

    ``first`` and ``row`` tell where the slab begins on the first and on the second axis of the image.
    """

    logits: Tensor
    first: int
    row: int


class Recorder(Protocol):
    """What listens to the network by hooks: it counts only while ``recording``."""

    recording: bool


class Step(NamedTuple):
    """Windows to run (nnU-Net's slicers); then the slices from ``first`` up to ``stop`` of the first axis are finished."""

    windows: list[tuple]
    first: int
    stop: int


@dataclass(frozen=True)
class Layout:
    """How the windows of one image are worked off; all shapes are of the padded image.

    Attributes:
        windows: nnU-Net's slicers, sorted along the first axis.
        shape: (Z, Y, X).
        inside: where the image lies in the padded one, three slices.
        heads: output channels C.
        depth: slices of the first axis that the buffer holds.
        blocks: (start, stop) of every block of the second axis.
        slab_voxels: about how many voxels are handed on at once, at least a slice.
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
        """The windows that touch a block, and what is finished in between."""
        touching = [window for window in self.windows if window[2].start < block[1] and window[2].stop > block[0]]
        todo: list[tuple] = []
        done = 0
        for (start, stop), row in groupby(touching, lambda window: _extent(window[1])):
            if stop - done > self.depth:
                yield Step(todo, done, start)
                todo, done = [], start
            todo = [*todo, *row]
        yield Step(todo, done, self.shape[0])

    def batches(self, windows: list[tuple], block: tuple[int, int]) -> Iterator[tuple[list[tuple], bool]]:
        """Windows that go through the network together, and whether an earlier block has had them before."""
        for repeated, some in groupby(windows, lambda window: window[2].start < block[0]):
            alike = list(some)
            for at in range(0, len(alike), self.windows_per_pass):
                yield alike[at : at + self.windows_per_pass], repeated


def _extent(index: int | slice) -> tuple[int, int]:
    """Start and stop of a slicer's entry; a 2-D window names its slice by a number."""
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
    """The layout whose buffer needs at most ``room`` bytes, as far as that can be; one block where all fits.

    Args:
        windows: nnU-Net's slicers of the padded image.
        shape: (Z, Y, X) of the padded image.
        inside: where the image lies in it.
        heads: output channels.
        room: bytes for the buffer of one pass; None: no limit.
        on_a_gpu: whether the buffer lies there, so that larger slabs are quicker.
        windows_per_pass: windows that go through the network together.
    """
    slice_voxels = shape[1] * shape[2]
    slab_voxels = max(SLAB_VOXELS, SLAB_ELEMENTS_ON_A_GPU // heads) if on_a_gpu else SLAB_VOXELS
    deep = max(stop - start for start, stop in (_extent(window[1]) for window in windows))
    if deep == 1:  # a 2-D network: as many slices as are handed on at once
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


class SlabStream:
    """Iterates over the slabs of one image in one network.

    Args:
        network: in evaluation mode, its output one tensor.
        image: padded image (M, Z, Y, X) float32; where it lies, the buffer lies.
        layout: how to work it off.
        gaussian: nnU-Net's weights of a window, of the patch's shape, where the image lies.
        device: where the network is; mixed precision on a GPU, as nnU-Net does it.
        flip: spatial axis of the network along which each window is mirrored before the network, and back after it.
        recorders: what listens to this pass, and to no other one of the same network; no window counts twice.
    """

    def __init__(
        self,
        network: nn.Module,
        image: Tensor,
        layout: Layout,
        gaussian: Tensor,
        device: torch.device,
        flip: int | None = None,
        recorders: Sequence[Recorder] = (),
    ) -> None:
        self.network, self.image, self.layout, self.gaussian = network, image, layout, gaussian
        self.device, self.flip, self.recorders = device, flip, recorders
        self._listen(False)

    def __iter__(self) -> Iterator[Slab]:
        for block in self.layout.blocks:
            sums = _Sums(self.layout, block, self.image.device)
            for step in self.layout.steps(block):
                self._run(step.windows, block, sums)
                yield from sums.finished(step.first, step.stop)
            del sums  # before the next one is made

    @torch.inference_mode()
    def _run(self, windows: list[tuple], block: tuple[int, int], sums: _Sums) -> None:
        mixed = torch.autocast("cuda") if self.device.type == "cuda" else contextlib.nullcontext()
        with mixed:
            for batch, repeated in self.layout.batches(windows, block):
                self._listen(not repeated)
                output = self._predict(torch.stack([self.image[window] for window in batch]).to(self.device))
                self._listen(False)
                for window, prediction in zip(batch, output, strict=True):
                    sums.add(window, prediction.to(self.image.device).mul_(self.gaussian), self.gaussian)

    def _predict(self, patches: Tensor) -> Tensor:
        if self.flip is None:
            return self.network(patches)
        axis = (self.flip + 2,)
        return torch.flip(self.network(torch.flip(patches, axis)), axis)

    def _listen(self, on: bool) -> None:
        for recorder in self.recorders:
            recorder.recording = on


class _Sums:
    """Weighted sums of logits of as many slices as the layout is deep; slice z lies at z modulo that depth."""

    @torch.inference_mode()
    def __init__(self, layout: Layout, block: tuple[int, int], device: torch.device) -> None:
        self.layout, self.block = layout, block
        shape = (layout.depth, block[1] - block[0], layout.shape[2])
        self.logits = torch.zeros((layout.heads, *shape), dtype=torch.half, device=device)
        self.weights = torch.zeros(shape, dtype=torch.half, device=device)

    def add(self, window: tuple, prediction: Tensor, gaussian: Tensor) -> None:
        """Add a weighted prediction (C, *patch) and its weights (*patch)."""
        start, stop = _extent(window[1])
        low, high = max(window[2].start, self.block[0]), min(window[2].stop, self.block[1])
        rows = slice(low - window[2].start, high - window[2].start)
        here = (slice(low - self.block[0], high - self.block[0]), window[3])
        if prediction.ndim == 3:  # a 2-D network
            prediction, gaussian = prediction[:, None], gaussian[None]
        for z, position, n in self._stretches(start, stop):
            planes = slice(z - start, z - start + n)
            there = (slice(position, position + n), *here)
            self.logits[(slice(None), *there)] += prediction[:, planes, rows]
            self.weights[there] += gaussian[planes, rows]

    def finished(self, first: int, stop: int) -> Iterator[Slab]:
        """Hand slices on that no further window touches, a slab at a time, and make room for others."""
        depth, row, column = self.layout.inside
        low, high = max(row.start, self.block[0]), min(row.stop, self.block[1])
        rows = slice(low - self.block[0], high - self.block[0])
        planes = max(1, self.layout.slab_voxels // (self.weights.shape[1] * self.weights.shape[2]))
        for at in range(first, stop, planes):
            for z, position, n in self._stretches(at, min(at + planes, stop)):
                mean = self._divide(position, n)
                begin, end = max(z, depth.start), min(z + n, depth.stop)
                if begin < end:
                    yield Slab(mean[:, begin - z : end - z, rows, column], begin - depth.start, low - row.start)
                self._clear(position, n)

    @torch.inference_mode()
    def _divide(self, position: int, n: int) -> Tensor:
        return self.logits[:, position : position + n].div_(self.weights[position : position + n])

    @torch.inference_mode()
    def _clear(self, position: int, n: int) -> None:
        self.logits[:, position : position + n].zero_()
        self.weights[position : position + n].zero_()

    def _stretches(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Slice, position in the buffer and length of the stretches that lie in one piece there: one or two."""
        while start < stop:
            position = start % self.layout.depth
            n = min(stop - start, self.layout.depth - position)
            yield start, position, n
            start += n
