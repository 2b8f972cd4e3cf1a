"""A label file that was looked at, and a label that is to be taken over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.returned.label_places import place_of


@dataclass
class SeenFile:
    """One file that was looked at.

    Attributes:
        file: where it is.
        state: its size and time.
        digest: of ``voxels``.
        voxels: (Z, Y, X) on the grid of the image, without the background of slices that nobody asked for.
        content: digest of the voxels as the file holds them.
        in_part: whether the file itself says that it is labelled in part.
        notes: how it was understood.
        accepted: whether somebody said of this file that it is right as it is.
        said: where slices were asked for, what it says in each.
    """

    file: Path
    state: list[int]
    digest: str
    voxels: np.ndarray
    content: str
    in_part: bool = False
    notes: tuple[str, ...] = ()
    accepted: bool = False
    said: Sequence[str] = ()

    def entry(self) -> list:
        """By which the file is known when it has not changed: size, time, what it says in each slice, digest of its voxels."""
        return [*self.state, *self.said, self.digest]


@dataclass
class FinishedLabel:
    """A label that is to be taken over.

    Attributes:
        voxels: (Z, Y, X) on the grid of the image.
        digest: of the voxels.
        file: where it comes from.
        files: place of every file of the case that was looked at -> see :meth:`SeenFile.entry`.
        contents: digests of what the file, and others that say the same, hold; the first one is the file's own.
        slices: where slices were asked for, those that it labels and that were not labelled before.
        accepted: whether somebody said of this file that it is right as it is.
    """

    voxels: np.ndarray
    digest: str
    file: Path
    files: dict[str, list]
    contents: tuple[str, ...]
    slices: SliceRequest | None = None
    accepted: bool = False

    @classmethod
    def of(cls, seen: SeenFile) -> FinishedLabel:
        """From a file that is the only one."""
        return cls(seen.voxels, seen.digest, seen.file, {place_of(seen.file): seen.entry()}, (seen.content,))
