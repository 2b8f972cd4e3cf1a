"""Chooses the slices of a case to show, and makes the layers of their pictures: grey image, uncertainty, outline of the prediction.

The layers are separate, so that the page can show or hide the same uncertainty picture and outline over every channel. Pictures keep
the voxels of the slice (resampled to fewer above ``LARGEST`` pixels); their true proportions are given in mm.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image
from skimage.measure import approximate_polygon, find_contours

from nnunet_active.data.dataset_json import class_masks
from nnunet_active.report.volumes import Volume

LARGEST = 256  # pixels on the longer side: ten cases with four channels stay below 10 MB, even if they are pure noise
TOP_OF_SCALE = float(np.log(2))  # nats; two equally likely classes
OBLIQUE = 15.0  # degrees; above this, a plane is not named after the patient's nearest plane
_LEVELS = 16

# name, array axis that is cut, letters at left, right, top, bottom (radiological convention: the patient's right is on the left)
VIEWS = (
    ("axial", 0, ("R", "L", "A", "P")),
    ("coronal", 1, ("R", "L", "S", "I")),
    ("sagittal", 2, ("A", "P", "S", "I")),
)


@dataclass(frozen=True)
class View:
    """One slice of a case, in one viewing direction.

    Attributes:
        name: ``axial``, ``coronal``, ``sagittal``; ``image`` for a single slice.
        caption: name and number; in an oblique stack of thick slices, how the plane relates to the acquisition.
        axis: array axis that is cut.
        position: index along that axis.
        number: number of the slice in file order, from 1, as viewers show it.
        letters: letters at left, right, top and bottom; empty if the geometry is not known.
        shape: rows and columns of the slice in voxels.
        size_mm: height and width.
        mark: row and column of the marked place; None if none is marked.
        strip: whether it cuts across thick slices, so that it is only a few rows or columns wide.
    """

    name: str
    caption: str
    axis: int
    position: int
    number: int
    letters: tuple[str, ...]
    shape: tuple[int, int]
    size_mm: tuple[float, float]
    mark: tuple[float, float] | None
    strip: bool = False

    def cut(self, voxels: np.ndarray) -> np.ndarray:
        """The slice (rows, columns) of an array (Z, Y, X), head up."""
        plane = np.take(voxels, self.position, axis=self.axis)
        return plane if self.axis == 0 else plane[::-1]


def largest_section(prediction: np.ndarray) -> tuple[int, int, int] | None:
    """Centre of the foreground in the slice (Z) that has most of it; None if nothing is predicted."""
    foreground = prediction > 0
    areas = foreground.sum(axis=(1, 2))
    if not areas.any():
        return None
    z = int(areas.argmax())
    rows, columns = np.nonzero(foreground[z])
    return z, int(np.median(rows)), int(np.median(columns))


def make_views(volume: Volume, place: tuple[int, int, int]) -> list[View]:
    """The three orthogonal views through a place, or the only view of a single slice; the acquired slices of a stack come first."""
    stack = volume.stack_axis
    axes = sorted(range(3), key=lambda axis: stack is not None and axis != stack)
    return [_view(volume, place, axis) for axis in axes if not (volume.voxels.shape[0] == 1 and axis > 0)]


def views_of_slices(volume: Volume, axis: str, numbers: Sequence[int]) -> list[View]:
    """The slices with these numbers in file order, from 0, along ``x``, ``y`` or ``z`` of the file; nothing is marked in them.

    Raises:
        BadCase: the file has no such slice.
    """
    views = []
    for number in numbers:
        along, position = volume.of_file_slice(axis, number)
        place = tuple(position if one == along else 0 for one in range(3))
        views.append(replace(_view(volume, place, along), mark=None, strip=False))
    return views


def _view(volume: Volume, place: tuple[int, int, int], axis: int) -> View:
    shape, stack = volume.voxels.shape, volume.stack_axis
    name, _, letters = VIEWS[axis]
    rows, columns = (i for i in range(3) if i != axis)
    number = _number_in_file(volume, place, axis)
    row = place[rows] if axis == 0 else shape[rows] - 1 - place[rows]
    return View(
        name="image" if shape[0] == 1 and volume.affine is None else name,
        caption=_caption(name, number, volume, axis),
        axis=axis,
        position=place[axis],
        number=number,
        letters=letters if volume.affine is not None else (),
        shape=(shape[rows], shape[columns]),
        size_mm=(shape[rows] * volume.spacing[rows], shape[columns] * volume.spacing[columns]),
        mark=(row + 0.5, place[columns] + 0.5),
        strip=stack is not None and axis != stack,
    )


def _caption(name: str, number: int, volume: Volume, axis: int) -> str:
    """The caption of a view; in an oblique stack of thick slices, it refers to the acquired slices."""
    if volume.voxels.shape[0] == 1 and volume.affine is None:
        return "image"
    if volume.stack_axis is None or volume.tilt <= OBLIQUE:
        return f"{name} {number}"
    acquired = axis == volume.stack_axis
    return f"slice {number} as acquired (near {name})" if acquired else f"across the slices at {number} (near {name})"


def _number_in_file(volume: Volume, place: tuple[int, int, int], axis: int) -> int:
    here = np.array(volume.file_index(place))
    further = np.array(volume.file_index([index + (i == axis) for i, index in enumerate(place)]))
    return int(here[np.argmax(np.abs(further - here))]) + 1


def grey_window(voxels: np.ndarray) -> tuple[float, float]:
    """Values shown as black and white: the 1st percentile of all voxels, and the 99.5th percentile of the voxels above it."""
    sample = voxels.ravel()[:: max(1, voxels.size // 2_000_000)]
    sample = sample[np.isfinite(sample)].astype(np.float64)
    if not sample.size:
        return 0.0, 1.0
    low = float(np.percentile(sample, 1))
    above = sample[sample > low]
    return low, float(np.percentile(above, 99.5)) if above.size else low + 1.0


def grey_picture(plane: np.ndarray, window: tuple[float, float]) -> str:
    """A slice as a PNG data URL, black at the lower end of the window and white at the upper."""
    low, high = window[0], max(window[1], window[0] + 1e-6)
    grey = np.nan_to_num((plane.astype(np.float64) - low) / (high - low), posinf=1, neginf=0)
    return _png(Image.fromarray((np.clip(grey, 0, 1) * 255).round().astype(np.uint8)))


def uncertainty_picture(plane: np.ndarray) -> str | None:
    """Uncertainty in nats as a PNG data URL: transparent at 0, yellow to red at ``TOP_OF_SCALE``; None if there is none."""
    share = np.clip(np.nan_to_num(plane, posinf=0, neginf=0) / TOP_OF_SCALE, 0, 1)
    levels = (share * (_LEVELS - 1)).round().astype(np.uint8)
    if not levels.any():
        return None
    picture = Image.fromarray(levels)
    picture.putpalette([value for level in range(_LEVELS) for value in _colour(level)[:3]])
    return _png(picture, transparency=bytes(_colour(level)[3] for level in range(_LEVELS)))


def scale_colours() -> list[str]:
    """The colours of the uncertainty scale from 0 upwards, for the legend."""
    return ["rgba({}, {}, {}, {:.2f})".format(*_colour(i)[:3], _colour(i)[3] / 255) for i in range(_LEVELS)]


def _colour(level: int) -> tuple[int, int, int, int]:
    share = level / (_LEVELS - 1)
    yellow, red = np.array([240, 228, 66]), np.array([213, 60, 0])  # colour-blind people can tell both from grey
    mixed = yellow + (red - yellow) * share
    return (*(int(v) for v in mixed), int(255 * min(0.72, 1.3 * share)))


def outlines(plane: np.ndarray, labels: Mapping[str, Any]) -> dict[str, str]:
    """The border of every predicted class or region in a slice, as an SVG path in voxel coordinates (origin: upper left corner).

    Args:
        plane: (rows, columns) label values.
        labels: as in ``dataset.json``: the value of each class, or the values of each region.
    """
    paths = {}
    for name, inside in class_masks(plane, labels).items():
        if inside.any():
            padded = np.pad(inside, 1).astype(np.float32)  # so that a border at the edge of the picture closes
            lines = [approximate_polygon(line, 0.25) for line in find_contours(padded, 0.5)]
            paths[name] = "".join(
                "M" + "L".join(f"{x - 0.5:.1f} {y - 0.5:.1f}" for y, x in line) + "Z" for line in lines
            )
    return paths


def _png(picture: Image.Image, **options: bytes) -> str:
    factor = LARGEST / max(picture.size)
    if factor < 1:
        size = tuple(max(1, round(side * factor)) for side in picture.size)
        picture = picture.resize(size, Image.Resampling.NEAREST if picture.mode == "P" else Image.Resampling.LANCZOS)
    if picture.mode == "L":  # 128 shades: the eye cannot see more, and the file is an eighth smaller
        picture = picture.point([round(255 * (shade // 2) / 127) for shade in range(256)])
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True, **options)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
