"""What a campaign asks for of one case: the whole of it, or some slices along an axis of the stored image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

AXES = ("x", "y", "z")


@dataclass(frozen=True)
class SliceRequest:
    """Some slices of one case.

    Attributes:
        axis: ``x``, ``y`` or ``z``: first, second or third axis of the stored image.
        slices: ascending, counted from 0 in the order of the file.
    """

    axis: str
    slices: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """As written into ``campaign.json`` and ``selection.json``."""
        return {"axis": self.axis, "slices": list(self.slices)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> SliceRequest:
        """Read back.

        Raises:
            ValueError: it is none.
        """
        try:
            axis, slices = content["axis"], content["slices"]
        except (KeyError, TypeError) as error:
            raise ValueError(f'slices are written as {{"axis": "z", "slices": [3, 7]}}, found {content!r}') from error
        whole = isinstance(slices, list) and all(type(index) is int and index >= 0 for index in slices)
        if axis not in AXES or not whole or not slices:
            raise ValueError(f'slices are written as {{"axis": "z", "slices": [3, 7]}}, found {content!r}')
        return cls(axis, tuple(sorted(set(slices))))

    def joined(self, other: SliceRequest | None) -> SliceRequest:
        """These and those of an earlier request of the same case.

        Raises:
            ValueError: they lie along another axis.
        """
        if other is None:
            return self
        if other.axis != self.axis:
            raise ValueError(f"slices along {self.axis} cannot join slices along {other.axis}")
        return SliceRequest(self.axis, tuple(sorted({*self.slices, *other.slices})))

    def words(self) -> str:
        """For people, who count from 1.

        >>> SliceRequest("z", (2, 6)).words()
        'slices 3, 7 along z'
        """
        many = "slices" if len(self.slices) > 1 else "slice"
        return f"{many} {', '.join(str(index + 1) for index in self.slices)} along {self.axis}"


def join_requests(requests: Iterable[Mapping[str, SliceRequest]]) -> dict[str, SliceRequest]:
    """All that was asked for of each case, over several rounds.

    >>> rounds = [{"a": SliceRequest("z", (3,))}, {"a": SliceRequest("z", (1,)), "b": SliceRequest("x", (0,))}]
    >>> {case: one.slices for case, one in join_requests(rounds).items()}
    {'a': (1, 3), 'b': (0,)}
    """
    found: dict[str, SliceRequest] = {}
    for one in requests:
        for case, request in one.items():
            found[case] = request.joined(found.get(case))
    return found
