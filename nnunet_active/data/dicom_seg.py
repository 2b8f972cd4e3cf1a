"""DICOM segmentations (binary and label map), which ITK must not read: it takes their frames for slices, 1 mm apart, without an error.

A file holds frames, each with its own place, and usually only those that are not empty. What lies between two of them it need not
say, so the step from slice to slice is that of the image. Nothing of a patient's header is kept or told.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnunet_active.data.geometry import GRID_TOLERANCE, Geometry
from nnunet_active.data.segments import Segment
from nnunet_active.util.errors import BadCase

if TYPE_CHECKING:
    from pydicom import Dataset

_LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
_KINDS = ("1.2.840.10008.5.1.4.1.1.66.4", _LABEL_MAP)
_SAID = re.compile(rb"1\.2\.840\.10008\.5\.1\.4\.1\.1\.66\.[47](?![.\d])")
_MISSING = 'is a DICOM file; pip install "nnunet_active[dicom]" brings what reads it'


@dataclass(frozen=True)
class _Frame:
    """A plane of voxels: (rows, columns), the mm of its first one, and its segment (0: its voxels are segment numbers)."""

    voxels: np.ndarray
    origin: np.ndarray
    segment: int


def is_dicom_segmentation(file: Path) -> bool:
    """Whether a file says at its beginning that it is a DICOM segmentation; none of its voxels are read."""
    try:
        with file.open("rb") as content:
            head = content.read(1024)
    except OSError:
        return False
    return head[128:132] == b"DICM" and _SAID.search(head) is not None


def read_dicom_segmentation(file: Path, image: Geometry, what: str) -> tuple[np.ndarray, Geometry, list[Segment]]:
    """Read a DICOM segmentation.

    Args:
        file: the segmentation.
        image: where the image lies that it was drawn on.
        what: what to call the file in messages.

    Returns:
        (layers, Z, Y, X) uint16, where they lie, and the segments; several layers only where segments overlap.

    Raises:
        BadCase: pydicom is not installed; the file is damaged, of another kind, or has fractions; its frames do not lie on slices of
            the image.
    """
    try:
        import pydicom
    except ImportError:
        raise BadCase(f"{what} {_MISSING}.") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote what is in the header
            content = pydicom.dcmread(file)
            kind = content.get("SOPClassUID", pydicom.uid.UID(""))
            if kind not in _KINDS:
                raise BadCase(f"{what} is no DICOM segmentation ({kind.name or 'of no known kind'}); export it as one.")
            voxels = np.asarray(content.pixel_array)
            if voxels.ndim == 2:
                voxels = voxels[None]
            frames, in_plane = _frames(content, _whole(voxels, content, what))
            names = {int(one.SegmentNumber): str(one.get("SegmentLabel", "")) for one in content.SegmentSequence}
    except BadCase:
        raise
    except Exception as error:  # pydicom raises quite different things; their texts may quote the header
        raise BadCase(f"{what} cannot be read ({type(error).__name__}); save it again.") from error
    if in_plane is None:
        raise BadCase(f"{what} has frames in different directions; save it with one direction.")
    places, grid = _slices(frames, in_plane, image, what)
    layers, layer_of = _layers(frames, places, grid.shape)
    numbers = layer_of or {int(number): 0 for number in np.unique(layers) if number}
    return layers, grid, [Segment(names.get(n) or f"segment {n}", n, layer) for n, layer in sorted(numbers.items())]


def _whole(voxels: np.ndarray, content: Dataset, what: str) -> np.ndarray:
    """Fractions are taken only where each is nothing or all."""
    if content.get("SegmentationType") != "FRACTIONAL":
        return voxels
    highest = int(content.get("MaximumFractionalValue", 255))
    if not np.isin(voxels, (0, highest)).all():
        raise BadCase(f"{what} has fractions of voxels; export it as a binary segmentation.")
    return voxels == highest


def _frames(content: Dataset, voxels: np.ndarray) -> tuple[list[_Frame], np.ndarray | None]:
    """The frames, and the steps along a row and along a column, mm, as columns (3, 2); None where they differ between frames."""
    shared = content.SharedFunctionalGroupsSequence[0]
    is_map = content.SOPClassUID == _LABEL_MAP or content.get("SegmentationType") == "LABELMAP"
    frames, steps = [], []
    for plane, own in zip(voxels, content.PerFrameFunctionalGroupsSequence, strict=True):

        def of(name: str, own: Dataset = own) -> Dataset:
            return (own if name in own else shared)[name].value[0]

        directions = np.reshape([float(n) for n in of("PlaneOrientationSequence").ImageOrientationPatient], (2, 3))
        between_rows, between_columns = (float(n) for n in of("PixelMeasuresSequence").PixelSpacing)
        origin = np.array([float(n) for n in of("PlanePositionSequence").ImagePositionPatient])
        number = 0 if is_map else int(of("SegmentIdentificationSequence").ReferencedSegmentNumber)
        frames.append(_Frame(plane, origin, number))
        steps.append(directions.T * (between_columns, between_rows))
    alike = np.allclose(steps, steps[0], rtol=0, atol=1e-4 * np.abs(steps[0]).max())
    return frames, steps[0] if alike else None


def _slices(frames: list[_Frame], in_plane: np.ndarray, image: Geometry, what: str) -> tuple[list[int], Geometry]:
    """The slice of each frame, and the grid that these slices make up."""
    normal = np.cross(*in_plane.T)
    axis = int(np.argmax(np.abs(normal @ image.matrix) / np.asarray(image.spacing)))
    step = image.matrix[:, axis]
    away = np.array([frame.origin for frame in frames]) - frames[0].origin
    places = away @ normal / (step @ normal)
    whole = np.rint(places)
    off = np.linalg.norm(away - whole[:, None] * step, axis=1).max()
    if off > GRID_TOLERANCE * min(image.spacing):
        raise BadCase(
            f"{what} has frames that lie up to {off:.3g} mm beside the slices of its image, {image.spacing[axis]:.4g} mm apart; export "
            f"it with the image as the reference (labels are never interpolated)."
        )
    first = int(whole.min())
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([in_plane, step])
    affine[:3, 3] = frames[0].origin + first * step
    rows, columns = frames[0].voxels.shape
    return [int(n) - first for n in whole], Geometry((columns, rows, int(whole.max()) - first + 1), affine)


def _layers(
    frames: list[_Frame], places: Iterable[int], shape: tuple[int, int, int]
) -> tuple[np.ndarray, dict[int, int]]:
    """The voxels, each with the number of its segment, and the layer of each segment: the first one in which it is in nobody's way."""
    parts: dict[int, list[tuple[int, np.ndarray]]] = {}
    for frame, place in zip(frames, places, strict=True):
        parts.setdefault(frame.segment, []).append((place, frame.voxels))
    layers: list[np.ndarray] = []
    layer_of: dict[int, int] = {}
    for number, planes in parts.items():
        free = (n for n, layer in enumerate(layers) if not any(layer[z][plane > 0].any() for z, plane in planes))
        chosen = next(free, len(layers))
        if chosen == len(layers):
            layers.append(np.zeros(shape, dtype=np.uint16))
        for z, plane in planes:
            layers[chosen][z][plane > 0] = number or plane[plane > 0]
        if number:
            layer_of[number] = chosen
    return np.stack(layers), layer_of
