"""Several networks as one: the folds of a model predict together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from nnunet_active.nnunet.inference import Pass, SlidingWindow, Window
from nnunet_active.scoring.ensemble import MeanPrediction


class EnsembleWindow(Window):
    """Several networks (the folds of a model) as one: the mean of their probabilities.

    Softmax heads: logits = log((1/K) sum_k softmax(l_k)); regions: logit((1/K) sum_k sigmoid(l_k)), float32; so the arg-max, softmax
    and sigmoid of these logits are those of the mean. K networks, K passes; one member's logits are held at a time.

    The embedding and ``class_mean`` are those of the first member (our choice: the features of different networks have no axes in
    common, and a mean of them would mean nothing). The mutual information is over the members; one member alone is mirrored
    instead. One member alone is that member, its digest included.

    Args:
        windows: the members; of equal plans, configuration and labels.

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

    @property
    def network(self) -> nn.Module:
        """The first member's."""
        return self.windows[0].network

    def with_network(self, network: nn.Module) -> SlidingWindow:
        """A window like the first member's on another network of the same architecture."""
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
        """Whether the first member has one."""
        return self.windows[0].has_encoder

    def _mean(self, image: np.ndarray, first: Tensor, entropies: bool = False) -> MeanPrediction:
        mean = MeanPrediction(self.regions, entropies)
        mean.add(first)
        del first
        for window in self.windows[1:]:
            mean.add(window.logits(image))
        return mean

    def logits(self, image: np.ndarray) -> Tensor:
        """Logits (C, Z, Y, X), float32, of the mean prediction for a preprocessed image (M, Z, Y, X) float32."""
        first = self.windows[0].logits(image)
        return first if len(self.windows) == 1 else self._mean(image, first).logits()

    def one_pass(self, image: np.ndarray, embedding: bool, class_mean: bool, ensemble: bool) -> Pass:
        """See :meth:`Window.one_pass`."""
        if len(self.windows) == 1:
            return self.windows[0].one_pass(image, embedding, class_mean, ensemble)
        first = self.windows[0].one_pass(image, embedding, class_mean, ensemble=False)
        mean = self._mean(image, first.logits, entropies=ensemble)
        first = first._replace(logits=None)  # one member's logits are held at a time
        information = mean.mutual_information() if ensemble else None
        return first._replace(logits=mean.logits(), information=information)

    def mutual_information(self, image: np.ndarray) -> float:
        """BALD over the members, in nats; of a single member: over its mirrored passes."""
        if len(self.windows) == 1:
            return self.windows[0].mutual_information(image)
        return self._mean(image, self.windows[0].logits(image), entropies=True).mutual_information()
