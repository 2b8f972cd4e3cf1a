"""Which channel and class of a target corresponds to which of the source: by name, as far as names match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ChannelMapping:
    """Which source channels feed each target channel.

    Attributes:
        source: names of the source channels.
        target: names of the target channels.
        kind: ``name``, ``position`` or ``shared``.
        indices: for each target channel its source channel, or None: zero at first (``name``), or an equal share of all
            source channels (``shared``).
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    kind: str
    indices: tuple[int | None, ...]

    @property
    def dropped(self) -> tuple[str, ...]:
        """Source channels that the target lacks; what the source learned from them is lost."""
        if self.kind == "shared":
            return ()
        return tuple(name for j, name in enumerate(self.source) if j not in self.indices)

    @property
    def identity(self) -> bool:
        """Whether the stem can be copied unchanged."""
        return self.kind != "shared" and self.indices == tuple(range(len(self.source)))

    def apply(self, weight: Tensor) -> Tensor:
        """Stem weight for the target: (out, source channels, ...) -> (out, target channels, ...)."""
        if self.kind == "shared":
            share = weight.sum(dim=1, keepdim=True) / len(self.target)
            return share.expand(-1, len(self.target), *weight.shape[2:]).clone()
        columns = [torch.zeros_like(weight[:, 0]) if j is None else weight[:, j] for j in self.indices]
        return torch.stack(columns, dim=1)

    def sentences(self) -> list[str]:
        """Sentences for people: what was matched, what starts new and what is lost."""
        if self.kind == "shared":
            names = f"No channel name in common ({_list(self.source)} -> {_list(self.target)})"
            if len(self.target) == 1:
                return [f"{names}: the channel gets the sum of the source's input weights."]
            share = f"an equal share of the source's input weights (W / {len(self.target)})"
            return [f"{names}: each of the {len(self.target)} channels gets {share}."]
        pairs = [(self.target[i], self.source[j]) for i, j in enumerate(self.indices) if j is not None]
        if self.kind == "position":
            matched = ", ".join(f"{target} <- {source}" for target, source in pairs)
            return [f"No channel name in common; channels matched by position: {matched}."]
        lines = [f"Channels matched by name: {_list(target for target, _ in pairs)}."]
        new = [self.target[i] for i, j in enumerate(self.indices) if j is None]
        if new:
            lines.append(f"Channels that the source does not know start with zero weights: {_list(new)}.")
        if self.dropped:
            lines.append(f"Channels of the source that the target lacks are dropped: {_list(self.dropped)}.")
        return lines


@dataclass(frozen=True)
class HeadMapping:
    """Which of the source's output channels feeds each of the target's.

    Attributes:
        source: names of the source's output channels in order (with ``background`` for labels, without for regions).
        target: the same for the target.
        indices: for each target output its source output, or None for a class that the source does not know.
        trained: False if no head of the source can be used; the network then keeps its own initial heads.
        reason: why ``trained`` is False, a sentence; empty otherwise.
        names_differ: whether other names in ``dataset.json`` could change that.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    indices: tuple[int | None, ...]
    trained: bool = True
    reason: str = ""
    names_differ: bool = True

    @property
    def dropped(self) -> tuple[str, ...]:
        """Classes of the source that the target lacks."""
        return tuple(name for j, name in enumerate(self.source) if j not in self.indices)

    @property
    def identity(self) -> bool:
        """Whether the heads can be copied unchanged."""
        return self.trained and self.indices == tuple(range(len(self.source)))

    def apply(self, values: Tensor, new: float) -> Tensor:
        """Rows for the target: (source classes, ...) -> (target classes, ...); unknown classes are filled with ``new``."""
        rows = [torch.full_like(values[0], new) if j is None else values[j] for j in self.indices]
        return torch.stack(rows)

    def sentences(self) -> list[str]:
        """Sentences for people: what was matched, what is new and what is lost."""
        if not self.trained and not self.names_differ:
            return [
                f"{self.reason} All output layers start untrained, so predictions say nothing before the first training."
            ]
        if not self.trained:
            return [
                f"{self.reason} All output layers start untrained, so the first query is made by an untrained head; if "
                f"they mean the same, give them the source's names in the target's dataset.json and plan again."
            ]
        lines = [
            f"Classes matched by name: {_list(self.target[i] for i, j in enumerate(self.indices) if j is not None)}."
        ]
        new = [self.target[i] for i, j in enumerate(self.indices) if j is None]
        if new:
            lines.append(f"Classes that the source does not know start with zero weights and a low bias: {_list(new)}.")
        if self.dropped:
            lines.append(f"Classes of the source that the target lacks are dropped: {_list(self.dropped)}.")
        return lines


def map_channels(source: Sequence[str], target: Sequence[str]) -> ChannelMapping:
    """Match channels by name (case and outer blanks are ignored; equal names in order), else by position or shared.

    >>> map_channels(["T1", "FLAIR", "T1ce"], ["flair", "T1ce"]).indices
    (1, 2)
    >>> map_channels(["cine"], ["LGE", "LGE filtered"]).kind
    'shared'
    """
    indices = _match(source, target)
    kind = "name"
    if all(index is None for index in indices):
        kind = "position" if len(source) == len(target) else "shared"
        indices = list(range(len(target))) if kind == "position" else indices
    return ChannelMapping(tuple(source), tuple(target), kind, tuple(indices))


def map_heads(source: Sequence[str], target: Sequence[str]) -> HeadMapping:
    """Match classes by name (case and outer blanks are ignored).

    Softmax heads (labels, with ``background``) and sigmoid heads (regions, without) do not mix. Without a common foreground
    class, the source's head is useless. In both cases ``trained`` is False.

    >>> map_heads(["background", "RV", "LV"], ["background", "LV", "RV", "scar"]).indices
    (0, 2, 1, None)
    """
    indices = tuple(_match(source, target))
    if ("background" in source) != ("background" in target):
        kinds = ("labels", "regions") if "background" in source else ("regions", "labels")
        reason = f"The source was trained with {kinds[0]}, the target has {kinds[1]}."
    elif all(index is None for name, index in zip(target, indices, strict=True) if name != "background"):
        foreground = [[name for name in names if name != "background"] for names in (source, target)]
        reason = f"No class name in common ({_list(foreground[0])} -> {_list(foreground[1])})."
    else:
        return HeadMapping(tuple(source), tuple(target), indices)
    return HeadMapping(tuple(source), tuple(target), (None,) * len(target), trained=False, reason=reason)


def _match(source: Sequence[str], target: Sequence[str]) -> list[int | None]:
    """For each target name the first unused source name that equals it, or None."""
    free: dict[str, list[int]] = {}
    for j, name in enumerate(source):
        free.setdefault(name.strip().casefold(), []).append(j)
    return [free[key].pop(0) if free.get(key := name.strip().casefold()) else None for name in target]


def _list(names: object) -> str:
    return ", ".join(str(name) for name in names) or "none"  # type: ignore[attr-defined]
