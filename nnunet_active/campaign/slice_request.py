"""A request for slices of one case, along one axis of the stored image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class SliceRequest:
    """Some slices of one case.

    Attributes:
        axis: ``x``, ``y`` or ``z``: first, second or third axis of the stored image.
        slices: ascending, without repeats, counted from 0 in file order.

    Raises:
        ValueError: there is no slice, a slice is negative, or they are not ascending.
    """

    axis: Literal["x", "y", "z"]
    slices: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.slices or min(self.slices) < 0 or list(self.slices) != sorted(set(self.slices)):
            raise ValueError(f"slices are counted from 0 and listed in ascending order, each once, not {self.slices}")

    def to_json(self) -> dict[str, Any]:
        """The request as written into ``campaign.json`` and ``selection.json``."""
        return {"axis": self.axis, "slices": list(self.slices)}

    def joined(self, other: SliceRequest | None) -> SliceRequest:
        """This request joined with another one of the same case.

        Raises:
            ValueError: the other slices lie along another axis.
        """
        if other is None:
            return self
        if other.axis != self.axis:
            raise ValueError(f"slices along {self.axis} cannot join slices along {other.axis}")
        return SliceRequest(self.axis, tuple(sorted({*self.slices, *other.slices})))

    def within(self, other: SliceRequest | None) -> SliceRequest | None:
        """The slices that ``other`` has, too; None if there are none."""
        shared = tuple(index for index in self.slices if other is not None and index in other.slices)
        return SliceRequest(self.axis, shared) if shared else None

    def words(self) -> str:
        """The request in words, for people, who count from 1.

        >>> SliceRequest("z", (2, 6)).words()
        'slices 3, 7 along z'
        """
        many = "slices" if len(self.slices) > 1 else "slice"
        return f"{many} {', '.join(str(index + 1) for index in self.slices)} along {self.axis}"


def join_requests(requests: Iterable[Mapping[str, SliceRequest]]) -> dict[str, SliceRequest]:
    """All slices requested for each case, over several rounds.

    >>> rounds = [{"a": SliceRequest("z", (3,))}, {"a": SliceRequest("z", (1,)), "b": SliceRequest("x", (0,))}]
    >>> {case: one.slices for case, one in join_requests(rounds).items()}
    {'a': (1, 3), 'b': (0,)}
    """
    found: dict[str, SliceRequest] = {}
    for one in requests:
        for case, request in one.items():
            found[case] = request.joined(found.get(case))
    return found
