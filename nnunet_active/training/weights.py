"""Reads a network's weights as a dictionary of tensors, and writes them back in place.

In place, because the optimizer, ``DistributedDataParallel`` and ``torch.compile`` keep references to the same tensors. A tensor with
several names in the network (nnU-Net's ``decoder.encoder.*``) appears once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from nnunet_active.scoring.encoder import unwrap

Weights = dict[str, Tensor]


def live_weights(network: nn.Module) -> Weights:
    """The network's own parameters and buffers, detached, not copied; wrapped networks are unwrapped."""
    inner = unwrap(network)
    return {
        name: tensor.detach() for part in (inner.named_parameters(), inner.named_buffers()) for name, tensor in part
    }


def copy_weights(network: nn.Module, device: torch.device | str | None = None) -> Weights:
    """A copy of the network's weights, on ``device`` or on their own device."""
    return {name: tensor.to(device or tensor.device, copy=True) for name, tensor in live_weights(network).items()}


@torch.no_grad()
def put_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Write ``weights`` into the network.

    Raises:
        KeyError: ``weights`` lacks a tensor of the network.
    """
    for name, tensor in live_weights(network).items():
        tensor.copy_(weights[name])


@torch.no_grad()
def follow(average: Weights, live: Weights, decay: float) -> None:
    """average <- d average + (1 - d) live, in place; tensors that are not floating-point are copied."""
    smooth = [name for name, tensor in live.items() if tensor.is_floating_point()]
    torch._foreach_lerp_([average[n] for n in smooth], [live[n] for n in smooth], 1 - decay)
    for name in live.keys() - set(smooth):
        average[name].copy_(live[name])


@torch.no_grad()
def interpolate(source: Mapping[str, Tensor], weights: Weights, alpha: float, free: Collection[str] = ()) -> Weights:
    """w0 + alpha (w - w0) for every tensor; tensors named in ``free`` or not floating-point stay w.

    Args:
        source: w0, on any device.
        weights: w.
        alpha: 0 is the source, 1 is w.
        free: names that are not interpolated.
    """
    fixed = {name for name, tensor in weights.items() if name in free or not tensor.is_floating_point()}
    return {
        name: tensor if name in fixed else torch.lerp(source[name].to(tensor), tensor, alpha)
        for name, tensor in weights.items()
    }
