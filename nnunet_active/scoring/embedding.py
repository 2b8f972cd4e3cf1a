"""Embeddings of whole cases: the deepest encoder features, averaged over space and over the sliding window's patches.

``z(x) = (1/P) sum_patches mean_space encoder_deepest(patch)``, shape (d,), with d the features of the encoder's last stage and P the
number of patches (ASSFT, our reading of "semantic" features; LAMDA, CoreSet and TypiClust are read the same way). The features are
taken by a forward hook during the scoring pass, so that they cost no pass of their own.
"""

from __future__ import annotations

from types import TracebackType

import numpy as np
import torch
from torch import Tensor, nn


def unwrap(network: nn.Module) -> nn.Module:
    """The network itself, without the shells that ``DistributedDataParallel`` and ``torch.compile`` put around it."""
    while True:
        inner = getattr(network, "module", None) if hasattr(network, "module") else getattr(network, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return network
        network = inner


def deepest_stage(network: nn.Module) -> nn.Module:
    """The module whose output is the deepest encoder feature map: ``encoder.stages[-1]`` of nnU-Net's architectures.

    Raises:
        ValueError: the network has no ``encoder``.
    """
    encoder = getattr(unwrap(network), "encoder", None)
    if not isinstance(encoder, nn.Module):
        raise ValueError(
            f"{type(unwrap(network)).__name__} has no .encoder, so that no embedding can be taken; "
            "use a strategy that needs none, or an architecture of nnU-Net's."
        )
    stages = getattr(encoder, "stages", None)
    return stages[-1] if stages is not None and len(stages) else encoder


def deepest_features(output: Tensor | list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    """The deepest feature map (B, d, ...) in what :func:`deepest_stage` put out; encoders that return all stages end with it."""
    return output[-1] if isinstance(output, (list, tuple)) else output


class EmbeddingRecorder:
    """Context manager that averages the deepest encoder features of all forward passes made inside it.

    Attributes:
        recording: whether a pass that is made now counts; at first it does.

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
