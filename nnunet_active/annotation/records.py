"""The records of a hand-off folder: ``handoff.json``, and the digest that tells an edited label from an untouched one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_active.data.geometry import Geometry
from nnunet_active.data.raw_dataset import RawCase, check_case_identifier
from nnunet_active.util.errors import MissingInput
from nnunet_active.util.state_file import read_checked_json

FORMAT = 1
HANDOFF_FILE = "handoff.json"


@dataclass(frozen=True)
class AskedSlices:
    """The slices of a case that an annotator is to label.

    Attributes:
        axis: ``x``, ``y`` or ``z`` of the stored image.
        slices: counted from 0, in file order.
        ignore: the ignore value, used in all other slices.
        before: the label so far, with the slices of earlier rounds; None if nothing is labelled.
    """

    axis: str
    slices: tuple[int, ...]
    ignore: int
    before: Path | None = None

    def entry(self, space: Geometry) -> dict[str, Any]:
        """The entry in ``handoff.json``: slices counted from 1, and the centre of the first one (mm)."""
        middle = [size // 2 for size in space.size]
        middle["xyz".index(self.axis)] = self.slices[0]
        place = list(space.position(tuple(middle)))
        return {"axis": self.axis, "slices": [index + 1 for index in self.slices], "position_mm": place}


@dataclass(frozen=True)
class HandoffCase:
    """A case to hand to the annotator.

    Attributes:
        raw: its image files.
        open_first: name of the channel to look at first.
        rank: its place in the worklist, from 1.
        facts: further columns of the worklist (numbers or short texts), e.g. the utility.
        asked: the slices to label; None for the whole scan.
        drawn: whether it was drawn by chance, so that its rank says nothing about its use.
    """

    raw: RawCase
    open_first: str
    rank: int
    facts: Mapping[str, Any] = field(default_factory=dict)
    asked: AskedSlices | None = None
    drawn: bool = False


@dataclass
class HandoffReport:
    """What a hand-off did.

    Attributes:
        folder: the hand-off folder.
        written: cases whose files were written now.
        untouched: cases that were there already, with an unedited prediction.
        edited: cases whose label somebody has edited; existing files of them were not changed.
        problems: one sentence for each case that is not in the folder, or was left as before.
    """

    folder: Path
    written: list[str] = field(default_factory=list)
    untouched: list[str] = field(default_factory=list)
    edited: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)


def begun_file(predictions: Path, case: str, ending: str) -> Path:
    """The file, beside a round's predictions, with the label that the annotator of slices starts from."""
    return Path(predictions) / "begun_with" / f"{case}{ending}"


def file_sha256(file: Path) -> str:
    """SHA-256 (hex) of a file's bytes, read in pieces."""
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while chunk := content.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def voxel_digest(array: np.ndarray) -> str:
    """SHA-256 (hex) of a label map's shape, type and voxels, the same for every file format and compression.

    The type is uint8 if every value is below 256, else uint16, whatever the array's own type is (nnU-Net reads labels as
    float32). So only shape and values matter.

    Args:
        array: (Z, Y, X), or (1, Z, Y, X) as nnU-Net's readers return it; whole numbers from 0 to 65535.

    Raises:
        ValueError: values that are not labels: negative, fractional or larger.
    """
    array = np.asarray(array)
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    smallest, largest = (array.min(), array.max()) if array.size else (0, 0)
    if not (smallest >= 0 and largest <= 65535):
        raise ValueError(f"label values from {smallest} to {largest} are outside 0 to 65535")
    voxels = array.astype(np.uint8 if largest < 256 else np.uint16)
    if array.dtype.kind == "f" and not np.array_equal(voxels, array):
        raise ValueError("label values must be whole numbers")
    digest = hashlib.sha256(f"{voxels.shape} {voxels.dtype.name}".encode())
    digest.update(np.ascontiguousarray(voxels, dtype=voxels.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def read_handoff(folder: Path) -> dict[str, Any]:
    """Content of ``handoff.json``.

    Raises:
        MissingInput: the folder has no such file, or the file cannot be used.
    """
    file = Path(folder) / HANDOFF_FILE
    if not file.is_file():
        raise MissingInput(
            f"{file} was not found; {folder} is not a hand-off folder, write it with nnunet_active annotate."
        )
    what, advice = "the record of a hand-off folder", "delete it and run nnunet_active annotate again"
    content = read_checked_json(file, _Handoff, what, advice, MissingInput)
    if content["format"] > FORMAT:
        raise MissingInput(
            f"{file} has format {content['format']}, this version reads up to {FORMAT}; update nnunet_active."
        )
    return content


@dataclass
class _Entry:
    """The facts about a case that ``ingest`` and ``next`` need."""

    label_file: str
    digest: str


@dataclass
class _Handoff:
    format: int
    cases: dict[str, _Entry]
    dataset: str | None = None

    def __post_init__(self) -> None:
        for case in self.cases:
            check_case_identifier(case)


@dataclass
class _Image:
    file: str
    channel: str


@dataclass
class _Asked:
    axis: str
    slices: list[int]


@dataclass
class CaseRecord:
    """The record of a case, made when it is handed over."""

    label_file: str
    digest: str
    label_sha256: str
    segmentation_file: str
    segmentation_sha256: str
    uncertainty_file: str
    open_first: str
    slices: dict[str, list[int]]
    volumes_mm3: dict[str, float]
    images: list[_Image]
    asked: _Asked | None = None
