"""DICOM segmentations, binary and label map: frames become slices.

A file holds frames, each with its own position, and usually only the non-empty ones. It need not say how far apart slices
are, so the step from slice to slice is that of the image.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nnunet_active.data.geometry import GRID_TOLERANCE, Geometry
from nnunet_active.data.segments import Segment, stack_segments
from nnunet_active.util.errors import BadCase

if TYPE_CHECKING:
    from pydicom import Dataset

_LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", _LABEL_MAP)


@dataclass(frozen=True)
class _Frame:
    """A plane of voxels: (rows, columns), the mm of its first voxel, and its segment (0: its voxels are segment numbers)."""

    voxels: np.ndarray
    origin: np.ndarray
    segment: int


def place_segmentation(content: Dataset, image: Geometry, what: str) -> tuple[np.ndarray, Geometry, list[Segment]]:
    """Voxels from a DICOM segmentation.

    Args:
        content: the segmentation.
        image: the grid of the image that it was drawn on.
        what: the file's name for messages.

    Returns:
        (layers, Z, Y, X) uint16, their grid, and the segments; several layers only if segments overlap.

    Raises:
        BadCase: it has fractions; its frames do not lie on slices of the image.
    """
    voxels = np.asarray(content.pixel_array)
    if voxels.ndim == 2:
        voxels = voxels[None]
    frames, in_plane = _frames(content, _whole(voxels, content, what))
    names = {int(one.SegmentNumber): str(one.get("SegmentLabel", "")) for one in content.SegmentSequence}
    if in_plane is None:
        raise BadCase(f"{what} has frames in different directions; save it with one direction.")
    places, grid = _slices(frames, in_plane, image, what)
    layers, layer_of = _layers(frames, places, grid.shape)
    numbers = layer_of or {int(number): 0 for number in np.unique(layers) if number}
    # segments are numbered in the order of the file, whatever the values of the data set
    return (
        layers,
        grid,
        [Segment(names.get(n) or f"segment {n}", n, layer, by_value=False) for n, layer in sorted(numbers.items())],
    )


def _whole(voxels: np.ndarray, content: Dataset, what: str) -> np.ndarray:
    """A fractional segmentation is accepted only if every fraction is 0 or 1."""
    if content.get("SegmentationType") != "FRACTIONAL":
        return voxels
    highest = int(content.get("MaximumFractionalValue", 255))
    if not np.isin(voxels, (0, highest)).all():
        raise BadCase(f"{what} has fractions of voxels; export it as a binary segmentation.")
    return voxels == highest


def _frames(content: Dataset, voxels: np.ndarray) -> tuple[list[_Frame], np.ndarray | None]:
    """The frames, and the steps along a row and along a column, mm, as columns (3, 2); None if they differ between frames."""
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
    """The slice of each frame, and the grid that these slices form."""
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
    """The voxels, each with the number of its segment, and the layer of each segment; all frames of a label map share a layer."""
    parts: dict[int, list[tuple[int, np.ndarray]]] = {}
    for frame, place in zip(frames, places, strict=True):
        parts.setdefault(frame.segment, []).append((place, frame.voxels))
    if list(parts) == [0]:
        layer = np.zeros(shape, dtype=np.uint16)
        for z, plane in parts[0]:
            layer[z][plane > 0] = plane[plane > 0]
        return layer[None], {}
    return stack_segments(parts, shape)
