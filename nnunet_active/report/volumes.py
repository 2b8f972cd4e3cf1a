"""Images, predictions and uncertainty maps as arrays along the patient's axes, for pictures; nothing is resampled.

A volume is (Z, Y, X). Where the file says how the patient lies, the axes are flipped and exchanged (whole voxels, no interpolation)
so that Z runs to the head, Y to the back and X to the patient's left, the order in which radiologists are shown pictures. Formats
without such knowledge (PNG, TIFF, 2-D files) stay as they are and get no letters.
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
"""A slice is thick if it is more than so many times as thick as a voxel is wide."""
_NO_DISTANCE = 1.0  # nnU-Net gives a single slice a thickness of 999; in pictures that would be a pillar


@dataclass(frozen=True)
class Volume:
    """One channel, or one map.

    Attributes:
        voxels: (Z, Y, X).
        spacing: mm between voxels, in the order of the axes.
        affine: (4, 4), array index (x, y, z) to mm in LPS (left, posterior, superior are positive); None: not known.
        file_affine: the same for the voxels as the file has them.
    """

    voxels: np.ndarray
    spacing: tuple[float, float, float]
    affine: np.ndarray | None = None
    file_affine: np.ndarray | None = None

    @property
    def tilt(self) -> float:
        """Largest angle in degrees between an axis of the array and the patient's axis it stands for (0: not known)."""
        if self.affine is None:
            return 0.0
        columns = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(np.degrees(np.arccos(np.clip(np.diag(columns), -1, 1))).max())

    @property
    def stack_axis(self) -> int | None:
        """The array axis along which thick slices were acquired; None where voxels are about as long in every direction."""
        longest = int(np.argmax(self.spacing))
        others = [step for axis, step in enumerate(self.spacing) if axis != longest]
        thick = self.voxels.shape[longest] > 1 and self.spacing[longest] > THICK * max(others)
        return longest if thick else None

    def patient_position(self, index: Sequence[int]) -> np.ndarray | None:
        """Millimetres (left, posterior, superior) of an array index (z, y, x)."""
        return None if self.affine is None else (self.affine @ [*index[::-1], 1.0])[:3]

    def file_index(self, index: Sequence[int]) -> tuple[int, int, int]:
        """Index (i, j, k), from 0, that an array index (z, y, x) has in the file."""
        if self.affine is None:
            return tuple(int(i) for i in index[::-1])
        found = np.linalg.solve(self.file_affine, self.affine @ [*index[::-1], 1.0])[:3]
        return tuple(int(i) for i in np.rint(found))


def read_channels(files: Sequence[Path], plans: dict) -> Iterator[Volume]:
    """The channels of a case one after the other; one is held at a time.

    Args:
        files: one file per channel, or one with all of them.
        plans: content of the plans file, whose reader takes the formats without a geometry.

    Raises:
        BadCase: a file is not there or cannot be read.
    """
    for file in files:
        yield from _read(Path(file), plans, label=False)


def read_map(file: Path, plans: dict, turn: bool = True) -> Volume:
    """A label map or an uncertainty map: see :func:`read_channels`.

    Args:
        file: the map.
        plans: content of the plans file.
        turn: whether to turn it to the patient's axes; False for a map of an image that has no geometry, whatever its own file says.
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
    except (RuntimeError, OSError, ValueError, AssertionError, KeyError) as error:  # each library has its own
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
