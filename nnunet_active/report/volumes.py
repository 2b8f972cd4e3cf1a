"""Reads images, predictions and uncertainty maps as arrays along the patient's axes, for pictures; nothing is resampled.

A volume is (Z, Y, X). If the file records the patient's orientation, axes are flipped and swapped (whole voxels, no interpolation) so
that Z runs to the head, Y to the back and X to the patient's left, the usual display for radiologists. Formats without orientation
(PNG, TIFF, 2-D files) are not changed and get no letters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_active.data.file_endings import carries_geometry
from nnunet_active.data.geometry import Geometry
from nnunet_active.data.image_checks import image_reader
from nnunet_active.data.itk_files import read_itk
from nnunet_active.util.errors import BadCase

THICK = 3.0
"""A slice is thick if its thickness is more than this many times the width of a voxel."""
_NO_DISTANCE = 1.0  # nnU-Net gives a single slice a thickness of 999, which would distort pictures


@dataclass(frozen=True)
class Volume:
    """One channel or one map.

    Attributes:
        voxels: (Z, Y, X).
        spacing: mm between voxels, in the order of the axes.
        affine: (4, 4), from array index (x, y, z) to mm in LPS (left, posterior, superior are positive); None if not known.
        file_affine: the same for the voxel order of the file.
    """

    voxels: np.ndarray
    spacing: tuple[float, float, float]
    affine: np.ndarray | None = None
    file_affine: np.ndarray | None = None

    @property
    def tilt(self) -> float:
        """Largest angle in degrees between an array axis and its patient axis; 0 if not known."""
        if self.affine is None:
            return 0.0
        columns = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(np.degrees(np.arccos(np.clip(np.diag(columns), -1, 1))).max())

    @property
    def stack_axis(self) -> int | None:
        """The array axis along which thick slices are stacked; None if voxels are about equally long in all directions."""
        longest = int(np.argmax(self.spacing))
        others = [step for axis, step in enumerate(self.spacing) if axis != longest]
        thick = self.voxels.shape[longest] > 1 and self.spacing[longest] > THICK * max(others)
        return longest if thick else None

    def patient_position(self, index: Sequence[int]) -> np.ndarray | None:
        """Millimetres (left, posterior, superior) of an array index (z, y, x)."""
        return None if self.affine is None else (self.affine @ [*index[::-1], 1.0])[:3]

    def file_index(self, index: Sequence[int]) -> tuple[int, int, int]:
        """Index (i, j, k) in the file, from 0, of an array index (z, y, x)."""
        if self.affine is None:
            return tuple(int(i) for i in index[::-1])
        found = np.linalg.solve(self.file_affine, self.affine @ [*index[::-1], 1.0])[:3]
        return tuple(int(i) for i in np.rint(found))

    def of_file_slice(self, axis: str, index: int) -> tuple[int, int]:
        """Where a slice of the file lies: its array axis, and its position along that.

        Args:
            axis: ``x``, ``y`` or ``z``: first, second or third axis of the file.
            index: number of the slice in file order, from 0.

        Raises:
            BadCase: the file has no such slice.
        """
        along = "xyz".index(axis)
        start = self.file_index((0, 0, 0))[along]
        for found, length in enumerate(self.voxels.shape):
            step = self.file_index([int(one == found) for one in range(3)])[along] - start  # 1 or -1 along one axis
            if step and 0 <= (position := (index - start) * step) < length:
                return found, position
        raise BadCase(f"slice {index + 1} along {axis} was asked for, and the image has no such slice.")


def read_channels(files: Sequence[Path], plans: dict) -> Iterator[Volume]:
    """The channels of a case one after the other; only one is in memory at a time.

    Args:
        files: one file per channel, or one file with all channels.
        plans: content of the plans file, whose reader reads formats without a geometry.

    Raises:
        BadCase: a file is missing or cannot be read.
    """
    for file in files:
        yield from _read(Path(file), plans, label=False)


def read_map(file: Path, plans: dict, turn: bool = True) -> Volume:
    """A label map or an uncertainty map; see :func:`read_channels`.

    Args:
        file: the map's file.
        plans: content of the plans file.
        turn: whether to turn it to the patient's axes; False for a map of an image without geometry, even if the map has one.
    """
    return next(_read(Path(file), plans, label=True, turn=turn))


def _read(file: Path, plans: dict, label: bool, turn: bool = True) -> Iterator[Volume]:
    if not file.is_file():
        raise BadCase(f"{file} was not found.")
    try:
        if carries_geometry(file.name):
            yield from _with_geometry(read_itk(file), turn)
        else:
            reader = image_reader(plans)()
            array, properties = reader.read_seg(str(file)) if label else reader.read_images([str(file)])
            yield from (_without_geometry(channel, properties["spacing"]) for channel in np.asarray(array))
    except (RuntimeError, OSError, ValueError, AssertionError, KeyError) as error:  # each library raises its own
        detail = (str(error).strip() or type(error).__name__).splitlines()[-1][:160]
        raise BadCase(f"{file} cannot be read ({detail}).") from error


def _with_geometry(image: sitk.Image, turn: bool) -> Iterator[Volume]:
    if image.GetDimension() == 4:
        for channel in range(image.GetSize()[3]):
            yield from _with_geometry(image[:, :, :, channel], turn)
        return
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise ValueError("its voxels are vectors")
    if image.GetDimension() == 2 or not turn:
        yield _without_geometry(sitk.GetArrayFromImage(image), image.GetSpacing()[::-1])
        return
    oriented = sitk.DICOMOrient(image, "LPS")
    voxels = sitk.GetArrayFromImage(oriented)
    yield Volume(
        voxels,
        tuple(float(s) for s in oriented.GetSpacing()[::-1]),
        Geometry.of_itk(oriented).affine,
        Geometry.of_itk(image).affine,
    )


def _without_geometry(voxels: np.ndarray, spacing: Sequence[float]) -> Volume:
    voxels = voxels if voxels.ndim == 3 else voxels[None]
    in_plane = tuple(float(s) for s in spacing[-2:])
    between = float(spacing[0]) if voxels.shape[0] > 1 and len(spacing) == 3 else _NO_DISTANCE
    return Volume(voxels, (between, *in_plane))
