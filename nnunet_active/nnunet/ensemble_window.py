"""Several networks as one: the folds of a model predict together."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from nnunet_active.nnunet.inference import SlidingWindow
from nnunet_active.nnunet.memory import require_memory
from nnunet_active.nnunet.streaming import Recorder, Slab, SlabStream
from nnunet_active.nnunet.window import PreparedImage, Window
from nnunet_active.scoring.ensemble import mean_logits


class EnsembleWindow(Window):
    """Several networks (the folds of a model) as one: the mean of their probabilities.

    Softmax heads: logits = log((1/K) sum_k softmax(l_k)); regions: logit((1/K) sum_k sigmoid(l_k)), float32; so the arg-max, softmax
    and sigmoid of these logits are those of the mean. K networks need K passes in step.

    The embedding and ``class_mean`` come from the first member (our choice: the features of different networks share no
    axes, so their mean would be meaningless). The mutual information is over the members. A single member behaves exactly
    as on its own, including its digest; its mutual information is over mirrored passes.

    Args:
        windows: the members, with equal plans, configuration and labels.

    Raises:
        ValueError: no member, or members with different heads.
    """

    def __init__(self, windows: Sequence[SlidingWindow]) -> None:
        if not windows:
            raise ValueError("an ensemble needs at least one member")
        self.windows = tuple(windows)
        first = self.windows[0]
        heads = {(window.labels.num_segmentation_heads, window.regions) for window in self.windows}
        if len(heads) > 1:
            raise ValueError(f"the members of an ensemble have different heads: {sorted(heads)}")
        self.plans, self.configuration, self.dataset_json = first.plans, first.configuration, first.dataset_json
        self.device, self.dimensions, self.mirror_axes = first.device, first.dimensions, first.mirror_axes
        self.labels = first.labels

    def __reduce__(self) -> tuple:
        """Pickling for another process; the members find a device there."""
        return EnsembleWindow, (self.windows,)

    @property
    def network(self) -> nn.Module:
        """The first member's network."""
        return self.windows[0].network

    def with_network(self, network: nn.Module) -> SlidingWindow:
        """A window like the first member's, with another network of the same architecture."""
        return self.windows[0].with_network(network)

    @property
    def digest(self) -> str:
        """See :attr:`Window.digest`."""
        digests = [window.digest for window in self.windows]
        if len(digests) == 1:
            return digests[0]
        return hashlib.blake2b(" ".join(digests).encode(), digest_size=16).hexdigest()

    @property
    def has_encoder(self) -> bool:
        """Whether the first member has an encoder."""
        return self.windows[0].has_encoder

    def side_by_side(self, members: bool) -> int:
        """See :meth:`Window.side_by_side`: one pass per member."""
        return len(self.windows) if len(self.windows) > 1 else self.windows[0].side_by_side(members)

    def prepare(self, image: np.ndarray | Tensor, passes: int, share: float = 1.0) -> PreparedImage:
        """See :meth:`Window.prepare`."""
        return self.windows[0].prepare(image, passes, share)

    @contextlib.contextmanager
    def streams(
        self, prepared: PreparedImage, members: bool = False, recorders: Sequence[Recorder] = ()
    ) -> Iterator[list[SlabStream]]:
        """See :meth:`Window.streams`."""
        with contextlib.ExitStack() as stack:
            first, *others = self.windows
            found = list(stack.enter_context(first.streams(prepared, members and not others, recorders)))
            for window in others:
                found += stack.enter_context(window.streams(prepared))
            yield found

    def merged(self, slabs: Sequence[Slab]) -> Tensor:
        """See :meth:`Window.merged`: the mean of the members' probabilities."""
        one = len(self.windows) == 1
        return self.windows[0].merged(slabs) if one else mean_logits([slab.logits for slab in slabs], self.regions)

    def logits(self, image: np.ndarray) -> Tensor:
        """Whole logits (C, Z, Y, X) on the CPU, float32 (a single member returns its own): see :meth:`Window.logits`."""
        if len(self.windows) == 1:
            return self.windows[0].logits(image)
        require_memory(2 * self.labels.num_segmentation_heads * image[0].size)
        whole = torch.empty((self.labels.num_segmentation_heads, *image.shape[1:]))
        with self.slabs(image) as slabs:
            for logits, first, row in slabs:
                whole[:, first : first + logits.shape[1], row : row + logits.shape[2]] = logits
        return whole
