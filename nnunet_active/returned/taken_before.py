"""Records what was taken before for a case, and decides whether a returned file is new.

A file is recognised by its place, size and time, and its content by the digest of its voxels. So if a hand-off folder was moved, copied
or named by another path, no label is taken twice, and no old label replaces its correction.
If slices are asked for, the same holds for each slice of a file, even if another slice of the file is new.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nnunet_active.data.partial_labels import labelled_slices
from nnunet_active.returned.label_places import is_as_recorded, place_of

Kind = Literal["news", "same", "older"]


@dataclass(frozen=True)
class TakenBefore:
    """What was taken before for one case.

    Attributes:
        files: for each file that was read when the label was taken, by place: size, time and digest; if slices were asked for, the
            digests of its slices before the last entry (see :func:`slice_digests`).
        digest: digest of the label in use; empty if not known.
        contents: digests of all labels ever taken, as their files hold them, and of their slices.
    """

    files: dict[str, list]
    digest: str
    contents: tuple[str, ...]

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> TakenBefore:
        """From the facts recorded by :meth:`~nnunet_active.campaign.campaign.Campaign.record_label`; they may be empty."""
        files = {place_of(Path(file)): entry for file, entry in facts.get("files", {}).items()}
        digest = facts.get("digest", "")
        # records of earlier versions do not list them
        contents = facts.get("contents") or [digest, *(entry[-1] for entry in files.values())]
        return cls(files, digest, tuple(dict.fromkeys(contents)))

    def is_untouched(self, file: Path) -> bool:
        """Whether a file is unchanged since it was last read."""
        return is_as_recorded(file, self.files.get(place_of(file), []))

    def repeated_slices(self, file: Path, voxels: np.ndarray, axis: int, ignore: int) -> set[int]:
        """The slices of a file that are unchanged since it was last read; for a file at a new place, slices that were ever taken.

        They must not count as new, since the label may have been corrected since. For the arguments, see :func:`slice_digests`.
        """
        entry = self.files.get(place_of(file))
        known = self.contents if entry is None else entry[2:-1]
        return {int(one.partition(":")[0]) for one in slice_digests(voxels, axis, ignore) if one in known}

    def kind_of(self, file: Path, digest: str, content: str, in_use: bool) -> Kind:
        """Whether a file brings something new.

        Args:
            file: its path.
            digest: digest of its voxels, without the background of slices that nobody asked for.
            content: digest of its voxels as the file holds them.
            in_use: whether it is the label in ``labelsTr``, which always counts.

        Returns:
            ``same``: its earlier content, or the label in use; ``older``: a label that was taken once and has been replaced; else
            ``news``.
        """
        entry = self.files.get(place_of(file))
        if entry is not None and entry[-1] == digest:
            return "same"
        if entry is not None or in_use or content not in self.contents:
            return "news"  # a change at the same place is intended, even back to an older label
        return "same" if digest == self.digest else "older"


def slice_digests(voxels: np.ndarray, axis: int, ignore: int) -> list[str]:
    """``INDEX:DIGEST`` of each labelled slice, to recognise it again.

    Args:
        voxels: (Z, Y, X), of any type.
        axis: the array axis along which slices are asked for.
        ignore: the ignore value; a slice with no other value is not labelled.
    """
    return [
        f"{index}:{blake2b(voxels.take(index, axis).astype('<u2').tobytes(), digest_size=8).hexdigest()}"
        for index in labelled_slices(voxels, axis, ignore)
    ]
