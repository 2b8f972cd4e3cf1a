"""Data classes for a label file that was read, and for a label that will be taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.returned.label_places import place_of


@dataclass
class SeenFile:
    """One label file that was read.

    Attributes:
        file: its path.
        state: its size and time.
        digest: digest of ``voxels``.
        voxels: (Z, Y, X) on the grid of the image, without the background of slices that nobody asked for.
        content: digest of the voxels as the file holds them.
        in_part: whether the file itself marks voxels as unlabelled.
        notes: how the file was interpreted.
        accepted: whether somebody has accepted this file unchanged.
        said: digests of its labelled slices, if slices were asked for.
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
        """The record that identifies the unchanged file: size, time, digests of its slices, digest of its voxels."""
        return [*self.state, *self.said, self.digest]


@dataclass
class FinishedLabel:
    """A label that will be taken.

    Attributes:
        voxels: (Z, Y, X) on the grid of the image.
        digest: digest of the voxels.
        file: the file that it comes from.
        files: for the place of every file of the case that was read, its :meth:`SeenFile.entry`.
        contents: content digests of the file and of others with the same label; the first one is the file's own.
        slices: the newly labelled slices, if slices were asked for.
        accepted: whether somebody has accepted this file unchanged.
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
        """From the only file of a case."""
        return cls(seen.voxels, seen.digest, seen.file, {place_of(seen.file): seen.entry()}, (seen.content,))
