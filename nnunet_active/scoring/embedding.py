"""Embeddings of whole cases: the deepest encoder features, averaged over space and over the sliding window's patches.

``z(x) = (1/P) sum_patches mean_space encoder_deepest(patch)``, shape (d,), with d the features of the encoder's last stage and P the
number of patches (ASSFT, our reading of "semantic" features; we read LAMDA, CoreSet and TypiClust the same way). A forward hook
collects the features during the scoring pass, so they cost no pass of their own.
"""

from __future__ import annotations

from types import TracebackType

import numpy as np
import torch
from torch import Tensor, nn

from nnunet_active.scoring.encoder import deepest_features, deepest_stage


class EmbeddingRecorder:
    """Context manager that averages the deepest encoder features of all forward passes made inside it.

    Attributes:
        recording: whether forward passes count at the moment; initially True.

    Example:
        >>> from torch import nn
        >>> network = nn.Module()
        >>> network.encoder = nn.Conv3d(1, 4, 1)
        >>> with EmbeddingRecorder(network) as recorder:
        ...     _ = network.encoder(torch.zeros(1, 1, 2, 2, 2))
        >>> recorder.embedding().shape
        (4,)
    """

    def __init__(self, network: nn.Module) -> None:
        self._stage = deepest_stage(network)
        self._sum: Tensor | None = None
        self._patches = 0
        self._handle: torch.utils.hooks.RemovableHandle | None = None
        self.recording = True

    def __enter__(self) -> EmbeddingRecorder:
        self._handle = self._stage.register_forward_hook(self._record)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _record(self, module: nn.Module, inputs: tuple, output: Tensor | list[Tensor] | tuple[Tensor, ...]) -> None:
        if not self.recording:
            return
        features = deepest_features(output)
        pooled = features.detach().float().flatten(2).mean(2).sum(0)
        self._sum = pooled if self._sum is None else self._sum + pooled
        self._patches += features.shape[0]

    def embedding(self) -> np.ndarray:
        """The mean over all patches seen so far, (d,) float32.

        Raises:
            ValueError: no forward pass was made inside the context.
        """
        if self._sum is None:
            raise ValueError("the encoder was not run, so that there is no embedding")
        return (self._sum / self._patches).cpu().numpy().astype(np.float32)
