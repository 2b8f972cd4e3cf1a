"""DICOM structure sets (RTSTRUCT): the contours of each region of interest, filled slice by slice.

Contours have no grid of their own. They are accepted if they lie on slices of the image, along any of its axes, within a tenth
of the slice distance; contours that would need interpolation are refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from nnunet_active.data.contour_fill import ON_CONTOUR, fill_contours
from nnunet_active.data.geometry import GRID_TOLERANCE, Geometry
from nnunet_active.data.segments import Segment, stack_segments
from nnunet_active.util.errors import BadCase

if TYPE_CHECKING:
    from pydicom import Dataset

STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
_XOR = "CLOSEDPLANAR_XOR"
_CLOSED = ("CLOSED_PLANAR", _XOR)


@dataclass
class _Roi:
    """A region of interest: its name, its contours, each (points, 3) voxel indices (x, y, z) of the image, and whether they cancel
    each other out where they overlap."""

    name: str
    contours: list[np.ndarray] = field(default_factory=list)
    xor: bool = False


def fill_structure_set(
    content: Dataset, image: Geometry, what: str
) -> tuple[np.ndarray, Geometry, list[Segment], list[str]]:
    """Voxels from the contours of a structure set.

    Args:
        content: the structure set.
        image: the grid of the image that it was drawn on.
        what: the file's name for messages.

    Returns:
        (layers, Z, Y, X) uint16, their grid, the segments, and sentences about slices and regions that are left empty; several
        layers only if regions overlap.

    Raises:
        BadCase: there is no closed contour; a contour is open, is not in one plane, or does not lie on a slice of the image.
    """
    rois = _rois(content, image, what)
    everything = [contour for roi in rois for contour in roi.contours]
    if not everything:
        raise BadCase(f"{what} has no contours of any label; draw them, or export the structure set again.")
    # each contour has a single position along this axis; if several axes fit because all contours are lines, take the last of (x, y, z)
    spread = np.max([np.ptp(contour, axis=0) for contour in everything], axis=0)
    axis = 2 - int(np.argmin(np.round(spread[::-1], 3)))
    in_plane = [one for one in (2, 1, 0) if one != axis]  # rows, columns
    shape = tuple(image.size[one] for one in in_plane)
    parts: dict[int, list[tuple[int, np.ndarray]]] = {}
    notes = []
    for number, roi in enumerate(rois, 1):
        areas: dict[int, list[np.ndarray]] = {}
        for contour in roi.contours:
            place = _slice_of(contour, axis, image, f"{what} has a contour of '{roi.name}'")
            areas.setdefault(place, []).append(contour[:, in_plane])
        parts[number] = [(place, fill_contours(found, shape, odd=roi.xor)) for place, found in sorted(areas.items())]
        if areas and (left_out := max(areas) - min(areas) + 1 - len(areas)):
            notes.append(f"'{roi.name}' has no contour in {left_out} of the slices between its first and its last one")
        if not any(plane.any() for _, plane in parts[number]):
            notes.append(f"'{roi.name}' is too small to hold the centre of a voxel")
    layers, layer_of = stack_segments(parts, (image.size[axis], *shape))
    segments = [Segment(roi.name, n, layer_of[n], by_value=False) for n, roi in enumerate(rois, 1)]
    return np.moveaxis(layers, 1, 3 - axis), image, segments, notes


def _rois(content: Dataset, image: Geometry, what: str) -> list[_Roi]:
    """The regions with closed contours; single points mark a place and have no area."""
    names = {int(one.ROINumber): str(one.get("ROIName") or "") for one in content.get("StructureSetROISequence", ())}
    to_voxels = np.linalg.inv(image.affine)
    found = []
    for entry in content.get("ROIContourSequence", ()):
        number = int(entry.ReferencedROINumber)
        roi = _Roi(names.get(number) or f"region {number}")
        for one in entry.get("ContourSequence", ()) or ():
            if one.ContourGeometricType == "POINT":
                continue
            if one.ContourGeometricType not in _CLOSED:
                raise BadCase(f"{what} has an open contour of '{roi.name}', which has no area; close or remove it.")
            roi.xor |= one.ContourGeometricType == _XOR
            points = np.asarray(one.ContourData, dtype=np.float64).reshape(-1, 3)
            told = one.get("NumberOfContourPoints") or len(points)
            if not len(points) or len(points) != int(told) or not np.isfinite(points).all():  # the file is incomplete
                raise ValueError("a contour lacks points, or has some that are nowhere")
            roi.contours.append(points @ to_voxels[:3, :3].T + to_voxels[:3, 3])
        if roi.contours:
            found.append(roi)
    return found


def _slice_of(contour: np.ndarray, axis: int, image: Geometry, what: str) -> int:
    """The slice, along an axis of the image, on which a contour lies."""
    along = contour[:, axis]
    place = int(np.rint(along.mean()))
    off = float(np.abs(along - place).max())
    if off > GRID_TOLERANCE:
        mm = contour @ image.matrix.T
        _, _, directions = np.linalg.svd(mm - mm.mean(axis=0), full_matrices=False)
        bent = float(np.abs((mm - mm.mean(axis=0)) @ directions[-1]).max()) if len(mm) > 3 else 0.0
        if bent > GRID_TOLERANCE * min(image.spacing):
            raise BadCase(
                f"{what} whose points do not lie in one plane, but up to {bent:.3g} mm beside it; draw it slice by slice."
            )
        spacing = image.spacing[axis]
        raise BadCase(
            f"{what} up to {off * spacing:.3g} mm beside the slices of its image, {spacing:.4g} mm apart; export it with the image as "
            f"the reference (contours are never interpolated)."
        )
    if not 0 <= place < image.size[axis] or any(
        contour[:, one].min() < ON_CONTOUR - 1 or contour[:, one].max() > image.size[one] - ON_CONTOUR
        for one in range(3)
        if one != axis
    ):
        raise BadCase(f"{what} that reaches outside its image; it seems to belong to another image.")
    return place
