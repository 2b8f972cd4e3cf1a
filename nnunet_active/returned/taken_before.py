"""What was taken of a case before, and whether a file that comes back is news.

A file is known by its place, size and time, and what it says by the digest of its voxels. So a hand-off folder that was moved, copied
or named by another path brings no label twice, and never an old one over its correction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nnunet_active.returned.label_copies import file_state, place_of

Kind = Literal["news", "same", "older"]


@dataclass(frozen=True)
class TakenBefore:
    """Of one case.

    Attributes:
        files: place -> size, time and digest of each file that was looked at when the label was taken.
        digest: of the label in use; empty: not known.
        contents: digests of all labels that were ever taken, as their files say them.
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
