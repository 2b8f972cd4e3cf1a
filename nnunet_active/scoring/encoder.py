"""Finds a network's deepest features: unwraps what training put around the network and takes the end of its encoder."""

from __future__ import annotations

from torch import Tensor, nn


def unwrap(network: nn.Module) -> nn.Module:
    """The network itself, without the wrappers of ``DistributedDataParallel`` and ``torch.compile``."""
    while True:
        inner = getattr(network, "module", None) if hasattr(network, "module") else getattr(network, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return network
        network = inner


def deepest_stage(network: nn.Module) -> nn.Module:
    """The module that puts out the deepest encoder feature map: ``encoder.stages[-1]`` in nnU-Net's architectures.

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
    """The deepest feature map (B, d, ...) in the output of :func:`deepest_stage`: the last, if the encoder returns all stages."""
    return output[-1] if isinstance(output, (list, tuple)) else output
