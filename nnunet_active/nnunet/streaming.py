"""nnU-Net's sliding window, passed on slab by slab, so that the logits of a whole volume are never held.

The windows come in nnU-Net's own order, sorted along the first axis, and are summed in half precision with nnU-Net's Gaussian. As
soon as no later window touches a slice of the first axis, the slice is divided by its weights and passed on, and its memory is
reused. So the buffer is as deep as the patch, not the volume. Every voxel gets the same additions in the same order as in
``nnUNetPredictor.predict_sliding_window_return_logits``: the numbers are the same, bit for bit on a CPU with one window per pass.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from nnunet_active.nnunet.window_layout import Layout, extent_of


class Slab(NamedTuple):
    """Logits (C, n, r, X) of some slices of the first axis; the next slab reuses the memory.

    ``first`` and ``row`` say where the slab begins on the first and second axis of the image.
    """

    logits: Tensor
    first: int
    row: int


class Recorder(Protocol):
    """Listens to the network through hooks; it counts only while ``recording``."""

    recording: bool


class SlabStream:
    """Iterates over the slabs of one image in one network.

    Args:
        network: in evaluation mode, with one tensor as output.
        image: padded image (M, Z, Y, X) float32; the buffer is on its device.
        layout: the order of the windows and the size of the buffer.
        gaussian: nnU-Net's weights of a window, in the patch's shape, on the image's device.
        device: of the network; mixed precision on a GPU, as in nnU-Net.
        flip: spatial axes along which each window is mirrored before the network, and back after it.
        recorders: listen to this pass and to no other of the same network; no window counts twice.
    """

    def __init__(
        self,
        network: nn.Module,
        image: Tensor,
        layout: Layout,
        gaussian: Tensor,
        device: torch.device,
        flip: tuple[int, ...] = (),
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
            del sums  # before the next block's sums are made

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
        if not self.flip:
            return self.network(patches)
        axes = tuple(axis + 2 for axis in self.flip)
        return torch.flip(self.network(torch.flip(patches, axes)), axes)

    def _listen(self, on: bool) -> None:
        for recorder in self.recorders:
            recorder.recording = on


class _Sums:
    """Weighted sums of logits for as many slices as the layout is deep; slice z is stored at z modulo that depth."""

    @torch.inference_mode()
    def __init__(self, layout: Layout, block: tuple[int, int], device: torch.device) -> None:
        self.layout, self.block = layout, block
        shape = (layout.depth, block[1] - block[0], layout.shape[2])
        self.logits = torch.zeros((layout.heads, *shape), dtype=torch.half, device=device)
        self.weights = torch.zeros(shape, dtype=torch.half, device=device)

    def add(self, window: tuple, prediction: Tensor, gaussian: Tensor) -> None:
        """Add a weighted prediction (C, *patch) and its weights (*patch)."""
        start, stop = extent_of(window[1])
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
        """Pass on slices that no further window touches, one slab at a time, and make room for others."""
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
        """Slice, position in the buffer and length of each stretch that is contiguous there: one or two."""
        while start < stop:
            position = start % self.layout.depth
            n = min(stop - start, self.layout.depth - position)
            yield start, position, n
            start += n
