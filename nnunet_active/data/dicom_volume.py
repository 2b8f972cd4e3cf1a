"""A series as a volume: its planes must be stacked, each position once, at equal distances; otherwise it is refused with the reason.

Nothing is resampled. Oblique directions are kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_active.data.dicom_planes import DicomPlane, without_warnings
from nnunet_active.data.geometry import GRID_TOLERANCE, Geometry
from nnunet_active.util.errors import BadCase

_SAME_DIRECTION = 1e-3  # difference of unit vectors, our choice: 0.06 degrees, a quarter of a voxel over 256
_SAME_SPACING = 1e-3  # relative


@dataclass(frozen=True, eq=False)
class DicomVolume:
    """Planes in the order of the slices, and their grid."""

    planes: tuple[DicomPlane, ...]
    grid: Geometry

    def read(self) -> np.ndarray:
        """The voxels (Z, Y, X), rescaled: int16 or int32 if all values are whole, else float32.

        Raises:
            BadCase: a file cannot be read.
        """
        places: dict[Path, list[int]] = {}
        for index, plane in enumerate(self.planes):
            places.setdefault(plane.file, []).append(index)
        # one slice after the other into its place, because a whole-body CT is large
        whole = all(plane.slope == 1 and plane.intercept.is_integer() for plane in self.planes)
        volume = np.empty(self.grid.shape, dtype=np.int32 if whole else np.float32)
        for file, indices in places.items():
            frames = _pixels(file)
            if frames.dtype.kind not in "iu" or frames.dtype.itemsize > 2:
                volume = volume.astype(np.float32, copy=False)
            for index in indices:
                plane = self.planes[index]
                if plane.frame >= len(frames) or frames.shape[1:] != plane.shape:
                    raise BadCase(f"has a file whose pixels are not those of its header ({file.name}); copy it again")
                volume[index] = frames[plane.frame] * np.float64(plane.slope) + plane.intercept
        if volume.dtype.kind == "f":
            return volume
        fits = volume.min() >= np.iinfo(np.int16).min and volume.max() <= np.iinfo(np.int16).max
        return volume.astype(np.int16) if fits else volume


def _pixels(file: Path) -> np.ndarray:
    """(frames, rows, columns) as stored."""
    import pydicom

    try:
        with without_warnings():
            pixels = np.asarray(pydicom.dcmread(file).pixel_array)
    except Exception as error:  # pydicom and the decoders raise very different errors; their texts may quote the header
        raise BadCase(f"has a file that cannot be read ({file.name}: {type(error).__name__}); copy it again") from error
    return pixels[None] if pixels.ndim == 2 else pixels


def stack_planes(planes: Sequence[DicomPlane]) -> DicomVolume:
    """Order the planes of a series as slices.

    Returns:
        The volume; slices follow the normal of their rows and columns, so the axes are right-handed.

    Raises:
        BadCase: the planes form no volume; the text is the end of a sentence that begins with the series.
    """
    if fault := next((plane.fault for plane in planes if plane.fault), ""):
        raise BadCase(fault)
    _check_alike(planes)
    along, down = _axes(planes[0].directions)
    normal = np.cross(along, down)
    ordered = sorted(planes, key=lambda plane: float(plane.origin @ normal))
    origins = np.array([plane.origin for plane in ordered])
    places = origins @ normal
    step = _step(ordered, places)
    across = origins - origins[0] - (places - places[0])[:, None] * normal
    _check_straight(across, places, min(ordered[0].steps))
    rows, columns = ordered[0].shape
    spacing = (*ordered[0].steps, step)
    direction = np.column_stack([along, down, normal]).ravel()
    return DicomVolume(tuple(ordered), Geometry.of_facts((columns, rows, len(ordered)), spacing, origins[0], direction))


def _check_alike(planes: Sequence[DicomPlane]) -> None:
    first = planes[0]
    if any(plane.origin is None or plane.directions is None or plane.steps is None for plane in planes):
        raise BadCase(
            "does not say where its images lie (photographs, projections and screenshots do not); choose another"
        )
    shapes = sorted({plane.shape for plane in planes})
    if len(shapes) > 1:
        (rows, columns), (more_rows, more_columns) = shapes[0], shapes[-1]
        raise BadCase(
            f"has images of different sizes ({columns} x {rows} to {more_columns} x {more_rows} pixels); choose another, or split it"
        )
    turned = [plane for plane in planes if np.abs(plane.directions - first.directions).max() > _SAME_DIRECTION]
    if turned:
        raise BadCase("has images in several directions, as a localizer has; choose another")
    if any(not np.allclose(plane.steps, first.steps, rtol=_SAME_SPACING, atol=0) for plane in planes):
        raise BadCase("has images with different pixel spacing; choose another, or split it")


def _axes(directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors along a row and along a column, made exactly orthogonal."""
    lengths = np.linalg.norm(directions, axis=1)
    if not np.allclose(lengths, 1, atol=0.01) or abs(directions[0] @ directions[1]) > 0.01:
        raise BadCase("has rows and columns that are not at right angles (ImageOrientationPatient); export it again")
    along = directions[0] / lengths[0]
    down = directions[1] - (directions[1] @ along) * along
    return along, down / np.linalg.norm(down)


def _step(planes: Sequence[DicomPlane], places: np.ndarray) -> float:
    """Mm from slice to slice."""
    if len(planes) == 1:
        if not planes[0].thickness or planes[0].thickness <= 0:
            raise BadCase("has one image only, and does not say how thick its slice is; choose another")
        return planes[0].thickness
    steps = np.diff(places)
    _check_once(planes, steps)
    usual = float(np.median(steps))
    regular = places[0] + np.arange(len(places)) * (places[-1] - places[0]) / (len(places) - 1)
    if np.abs(places - regular).max() <= GRID_TOLERANCE * usual:
        return float(places[-1] - places[0]) / (len(places) - 1)
    multiples = np.rint(steps / usual)
    if np.abs(steps - multiples * usual).max() <= GRID_TOLERANCE * usual and multiples.min() >= 1:
        gap, absent = int(np.argmax(multiples)) + 1, int(multiples.sum() - len(multiples))
        raise BadCase(
            f"lacks {absent} slice(s): they lie {usual:.4g} mm apart, but numbers {gap} and {gap + 1} of the {len(places)} that are "
            f"there {steps[gap - 1]:.4g} mm; copy the whole series again"
        )
    raise BadCase(
        f"has slices at unequal distances, from {steps.min():.4g} to {steps.max():.4g} mm; choose another, or resample it"
    )


def _check_once(planes: Sequence[DicomPlane], steps: np.ndarray) -> None:
    """Check that every position has one image."""
    same = np.concatenate([[False], steps < 1e-3])
    if not same.any():
        return
    counts = list(Counter(np.cumsum(~same)).values())
    if min(counts) == max(counts):
        moments = {name: len({plane.moment[name] for plane in planes}) for name in planes[0].moment}
        by = [name for name, number in moments.items() if number == counts[0]]
        by_what = f", which differ in {by[0]}" if by else ""
        raise BadCase(
            f"has {counts[0]} images at each of its {len(counts)} places{by_what} (time points, echoes or b-values); split it, and "
            f"import one of them"
        )
    twice = sum(count > 1 for count in counts)
    raise BadCase(
        f"has more than one image at {twice} of its {len(counts)} places; take out those that do not belong to it"
    )


def _check_straight(across: np.ndarray, places: np.ndarray, smallest: float) -> None:
    """Check that each slice lies straight above the one before."""
    shift = np.linalg.norm(across, axis=1)
    if shift.max() <= GRID_TOLERANCE * smallest:
        return
    line = across[-1] / (places[-1] - places[0])
    if np.linalg.norm(across - (places - places[0])[:, None] * line, axis=1).max() <= GRID_TOLERANCE * smallest:
        angle = float(np.degrees(np.arctan(np.linalg.norm(line))))
        raise BadCase(
            f"has slices that are sheared by {angle:.3g} degrees (a tilted gantry); resample it to right angles"
        )
    raise BadCase(f"has slices that are shifted against each other by up to {shift.max():.3g} mm; choose another")
