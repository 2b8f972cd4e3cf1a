"""Carry the weights of one network into another with other input channels and classes.

Wherever possible, the source's prediction is unchanged before the first step of training:

* **Channels by name.** ``W_t[:, i] = W_s[:, j]`` if target channel i has the name of source channel j; other target
  channels start at zero, so the network does not see them at first.
* **No name in common, equal counts:** by position, ``W_t[:, i] = W_s[:, i]``.
* **No name in common, other counts:** shared, ``W_t[:, i] = sum_j W_s[:, j] / M`` for each of the M target channels. A
  target whose channels all equal the source's single channel gets exactly the source's prediction.
* **Classes by name.** Rows are copied; a class that the source does not know gets zero weights and the bias
  `NEW_CLASS_BIAS`, in the head of every resolution.

Published work uses the inflated stem (W / M) for a single-channel source; the rest is our reading and our choice.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from nnunet_active.models.name_mapping import ChannelMapping, HeadMapping
from nnunet_active.scoring.encoder import unwrap
from nnunet_active.util.errors import IncompatibleSource

NEW_CLASS_BIAS = -10.0
"""Bias of a class that the source lacks (our choice). nnU-Net's logits are roughly centred, so the new class begins
with a probability below exp(-10) = 4.5e-5: arg-max and entropy are the source's, but the gradient of the cross entropy
at a voxel of the new class is still 1."""


MOST_NAMED = 2
"""Layers that a refusal names, which help only the person who built the network."""


@dataclass(frozen=True)
class TransferReport:
    """What `transfer_weights` did.

    Attributes:
        channels: the mapping of the input channels.
        heads: the mapping of the classes.
        copied: number of tensors copied unchanged.
        stem: state-dict keys changed by the channel mapping (none if it is the identity).
        head: state-dict keys changed by the class mapping, or left at their initial values.
    """

    channels: ChannelMapping
    heads: HeadMapping
    copied: int
    stem: tuple[str, ...]
    head: tuple[str, ...]

    @property
    def head_trained(self) -> bool:
        """Whether the first prediction comes from the source's own head."""
        return self.heads.trained

    def lines(self) -> list[str]:
        """Sentences for people."""
        return [*self.channels.sentences(), *self.heads.sentences()]


def transfer_weights(
    network: nn.Module, weights: dict[str, Tensor], channels: ChannelMapping, heads: HeadMapping
) -> TransferReport:
    """Load the source's weights in place into ``network``: stem by channels, heads by classes, everything else unchanged.

    Args:
        network: built for the target; may be compiled or wrapped for DDP.
        weights: the source's state dict. Keys that are aliases of one tensor (``decoder.encoder.*``) may be missing.
        channels: from `map_channels`.
        heads: from `map_heads`.

    Raises:
        IncompatibleSource: keys or shapes differ elsewhere; the first few are listed and ``network`` is unchanged.
    """
    network = unwrap(network)
    state = network.state_dict()
    aliases = _aliases(state)
    source = {key: next((weights[name] for name in aliases[key] if name in weights), None) for key in state}
    stem = set() if channels.identity else _stem_keys(network, source, channels, aliases)
    head = {} if heads.identity else _head_keys(network, source, heads)

    new: dict[str, Tensor] = {}
    problems: list[str] = []
    for key, own in state.items():
        value = source[key]
        if key in head and not heads.trained:
            new[key] = own
            continue
        if value is None:
            problems.append(f"{key} {_shape(own)} is not in the source")
            continue
        if key in stem and value.ndim == own.ndim and value.shape[1] == len(channels.source):
            value = channels.apply(value)
        elif key in head and value.ndim == own.ndim and value.shape[head[key]] == len(heads.source):
            fill = NEW_CLASS_BIAS if value.ndim == 1 else 0.0
            value = heads.apply(value.movedim(head[key], 0), fill).movedim(0, head[key])
        if value.shape != own.shape:
            problems.append(f"{key} is {_shape(value)} in the source and {_shape(own)} in the target")
        new[key] = value.to(dtype=own.dtype)
    used = {_storage(value) for value in source.values() if value is not None}
    unknown = [key for key, value in weights.items() if key not in state and _storage(value) not in used]
    problems += [f"{key} {_shape(weights[key])} is not in the target" for key in unknown]
    if problems:
        more = f", and {len(problems) - MOST_NAMED} more" if len(problems) > MOST_NAMED else ""
        raise IncompatibleSource(
            f"Make the plans from this source model (nnunet_active plan), and keep the kind of trainer that it was trained with: it "
            f"does not fit the network that the target's plans describe ({'; '.join(problems[:MOST_NAMED])}{more})."
        )
    network.load_state_dict(new)
    copied = len(new) - len(stem) - len(head)
    return TransferReport(channels, heads, copied, tuple(sorted(stem)), tuple(sorted(head)))


def _storage(tensor: Tensor) -> tuple[int, tuple[int, ...], int]:
    return tensor.untyped_storage().data_ptr(), tuple(tensor.shape), tensor.storage_offset()


def _aliases(state: dict[str, Tensor]) -> dict[str, list[str]]:
    """For each key all keys of the same tensor, itself first. (Modules registered twice have two keys.)"""
    groups: dict[tuple, list[str]] = {}
    for key, value in state.items():
        groups.setdefault(_storage(value) if value.numel() else (key,), []).append(key)
    return {key: [key, *(name for name in group if name != key)] for group in groups.values() for key in group}


def _stem_keys(
    network: nn.Module, source: dict[str, Tensor | None], channels: ChannelMapping, aliases: dict[str, list[str]]
) -> set[str]:
    """Keys of the weights that see the input channels: as the network declares them, else found by their shape."""
    declared = [f"{name}.weight" for name in getattr(network, "keys_to_in_proj", ())]
    keys = {alias for key in declared if key in aliases for alias in aliases[key]}
    if keys:
        return keys
    keys = {
        f"{name}.weight"
        for name, module in network.named_modules(remove_duplicate=False)
        if isinstance(module, nn.modules.conv._ConvNd)
        and not module.transposed
        and module.in_channels == len(channels.target)
        and (weight := source.get(f"{name}.weight")) is not None
        and weight.shape[1] == len(channels.source)
    }
    distinct = {aliases[key][0] if len(aliases[key]) == 1 else min(aliases[key]) for key in keys}
    if not keys or (len(channels.source) == len(channels.target) and len(distinct) > 1):
        raise IncompatibleSource(
            f"{type(network).__name__} does not declare its input layer (keys_to_in_proj), and it cannot be told by its "
            f"shape; use a target with the source's channels in the same order."
        )
    return keys


def _head_keys(network: nn.Module, source: dict[str, Tensor | None], heads: HeadMapping) -> dict[str, int]:
    """Keys of the output layers, each with the axis of the classes: ``seg_layers.N`` if they exist, else found by shape."""
    layers = {
        name: module
        for name, module in network.named_modules(remove_duplicate=False)
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear)
    }
    chosen = {name: module for name, module in layers.items() if "seg_layers" in name.split(".")}
    if not chosen:
        chosen = {
            name: module
            for name, module in layers.items()
            if getattr(module, "out_channels", getattr(module, "out_features", None)) == len(heads.target)
            and (weight := source.get(f"{name}.weight")) is not None
            and weight.shape[_class_axis(module)] == len(heads.source)
        }
        if not chosen or (len(heads.source) == len(heads.target) and len({id(m) for m in chosen.values()}) > 1):
            raise IncompatibleSource(
                f"The output layer of {type(network).__name__} cannot be told by its shape (no seg_layers); use a target "
                f"with the source's labels in the same order."
            )
    keys = {}
    for name, module in chosen.items():
        keys[f"{name}.weight"] = _class_axis(module)
        if module.bias is not None:
            keys[f"{name}.bias"] = 0
    return keys


def _class_axis(module: nn.Module) -> int:
    return 1 if getattr(module, "transposed", False) else 0


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
