"""What was taken of a case before, and whether a file that comes back is news.

A file is known by its place, size and time, and what it says by the digest of its voxels. So a hand-off folder that was moved, copied
or named by another path brings no label twice, and never an old one over its correction.
Where slices are asked for, the same holds of each slice of a file, also where another slice of it is news.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nnunet_active.data.partial_labels import labelled_slices
from nnunet_active.returned.label_places import file_state, place_of

Kind = Literal["news", "same", "older"]


@dataclass(frozen=True)
class TakenBefore:
    """Of one case.

    Attributes:
        files: place -> size, time and digest of each file that was looked at when the label was taken; before the last of them, where
            slices were asked for, what it said in each (see :func:`slice_digests`).
        digest: of the label in use; empty: not known.
        contents: digests of all labels that were ever taken, as their files say them, and of their slices.
    """

    files: dict[str, list]
    digest: str
    contents: tuple[str, ...]

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> TakenBefore:
        """From what is recorded of the case (see :meth:`~nnunet_active.campaign.campaign.Campaign.record_label`); empty: nothing."""
        files = {place_of(Path(file)): entry for file, entry in facts.get("files", {}).items()}
        digest = facts.get("digest", "")
        # records of earlier versions do not list them
        contents = facts.get("contents") or [digest, *(entry[-1] for entry in files.values())]
        return cls(files, digest, tuple(dict.fromkeys(contents)))

    def is_untouched(self, file: Path) -> bool:
        """Whether a file is as it was when it was looked at last."""
        return self.files.get(place_of(file), [])[:2] == file_state(file)

    def repeated_slices(self, file: Path, voxels: np.ndarray, axis: int, ignore: int) -> set[int]:
        """The slices in which a file says what it said when it was looked at last; one at a new place, what was ever taken.

        They are nobody's word now: the label may have been corrected since. See :func:`slice_digests` for the arguments.
        """
        entry = self.files.get(place_of(file))
        known = self.contents if entry is None else entry[2:-1]
        return {int(one.partition(":")[0]) for one in slice_digests(voxels, axis, ignore) if one in known}

    def kind_of(self, file: Path, digest: str, content: str, in_use: bool) -> Kind:
        """What a file brings.

        Args:
            file: where it is.
            digest: of its voxels, without the background of slices that nobody asked for.
            content: digest of its voxels as it holds them.
            in_use: it lies in ``labelsTr``: what is trained on always counts.

        Returns:
            ``same``: what it said before, or what is in use; ``older``: a label that was taken once and replaced since; else ``news``.
        """
        entry = self.files.get(place_of(file))
        if entry is not None and entry[-1] == digest:
            return "same"
        if entry is not None or in_use or content not in self.contents:
            return "news"  # what somebody changed at its place is meant, be it a step back
        return "same" if digest == self.digest else "older"


def slice_digests(voxels: np.ndarray, axis: int, ignore: int) -> list[str]:
    """``INDEX:DIGEST`` of each labelled slice, by which it is known again.

    Args:
        voxels: (Z, Y, X), of whatever type.
        axis: along which slices are asked for.
        ignore: the ignore value; a slice that holds nothing else is not labelled.
    """
    return [
        f"{index}:{blake2b(voxels.take(index, axis).astype('<u2').tobytes(), digest_size=8).hexdigest()}"
        for index in labelled_slices(voxels, axis, ignore)
    ]
