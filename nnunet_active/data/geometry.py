"""Where the voxels of an image lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from nibabel.orientations import io_orientation
from nibabel.spatialimages import HeaderDataError

from nnunet_active.data.file_endings import NIFTI, carries_geometry
from nnunet_active.data.nifti import read_nifti_header, with_positive_steps

# Corresponding voxels of two grids may lie this far apart, as a fraction of the smallest spacing. Our choice: programs round origins
# and directions when they save (below 0.01 voxels), but a flip or a shift by one voxel is 1 or more.
GRID_TOLERANCE = 0.1

_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # NIfTI's axes point right and anterior, ITK's left and posterior


@dataclass(frozen=True, eq=False)
class Geometry:
    """The voxel grid of an image, always 3-D: a 2-D image is one slice.

    Attributes:
        size: voxels along (x, y, z).
        affine: (4, 4) float64, voxel index (x, y, z, 1) to mm in ITK's terms (left, posterior, superior are positive).
        known: whether the file stores its geometry; False for formats without.
        dimension: axes of the file, 2, 3 or more.
    """

    size: tuple[int, int, int]
    affine: np.ndarray
    known: bool = True
    dimension: int = 3

    @classmethod
    def of_itk(cls, image: sitk.Image | sitk.ImageFileReader) -> Geometry:
        """From an image in memory, or a reader that has read its header; axes beyond the third are left out."""
        return cls.of_facts(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    @classmethod
    def of_facts(
        cls, size: Sequence[int], spacing: Sequence[float], origin: Sequence[float], direction: Sequence[float]
    ) -> Geometry:
        """From the numbers that ITK reports, along (x, y, z)."""
        dimension, kept = len(spacing), min(len(spacing), 3)
        voxels, affine = [1, 1, 1], np.eye(4)
        voxels[: min(len(size), 3)] = [int(n) for n in size[:3]]
        affine[:kept, :kept] = np.reshape(direction, (dimension, dimension))[:kept, :kept] * np.asarray(spacing[:kept])
        affine[:kept, 3] = origin[:kept]
        return cls(tuple(voxels), affine, dimension=dimension)

    @classmethod
    def of_ras(cls, size: Sequence[int], affine: np.ndarray) -> Geometry:
        """From NIfTI's matrix, in which right, anterior and superior are positive."""
        return cls(tuple(int(n) for n in size), _FLIP @ np.asarray(affine, dtype=float))

    @classmethod
    def of_shape(cls, shape: Sequence[int], spacing: Sequence[float] = (1.0, 1.0, 1.0)) -> Geometry:
        """For a format without geometry: shape and spacing in the order (Z, Y, X)."""
        return cls(tuple(int(n) for n in shape[::-1]), np.diag([*(float(s) for s in spacing[::-1]), 1.0]), known=False)

    @classmethod
    def of_file(cls, file: Path, shape: Sequence[int] = (1, 1, 1)) -> Geometry:
        """From an image file; only its header is read.

        Args:
            file: the image.
            shape: (Z, Y, X) of its voxels in file order, for headers that do not give it.

        Raises:
            RuntimeError, ValueError: the header cannot be read.
        """
        if not carries_geometry(Path(file).name):
            return cls.of_shape(shape)
        try:
            reader = sitk.ImageFileReader()
            reader.SetFileName(str(file))
            reader.ReadImageInformation()
        except RuntimeError:
            if not Path(file).name.lower().endswith(NIFTI):
                raise
            # ITK refuses matrices that are not orthonormal; nnU-Net's NibabelIO accepts them
            header = with_positive_steps(read_nifti_header(file))
            return cls.of_ras((*header.get_data_shape(), 1, 1, 1)[:3], header.get_best_affine())
        return cls.of_itk(reader)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels in the order of an array, (Z, Y, X)."""
        return self.size[::-1]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Mm along (x, y, z)."""
        return tuple(float(n) for n in np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def origin(self) -> tuple[float, float, float]:
        """Mm of the first voxel."""
        return tuple(float(n) for n in self.affine[:3, 3])

    @property
    def matrix(self) -> np.ndarray:
        """Voxel steps to mm, (3, 3)."""
        return self.affine[:3, :3]

    @property
    def direction(self) -> tuple[float, ...]:
        """The axes' directions in ITK's form: nine numbers, row by row."""
        return tuple(float(n) for n in (self.matrix / np.asarray(self.spacing)).ravel())

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def position(self, voxel: Sequence[float]) -> tuple[float, float, float]:
        """Mm of a voxel index (x, y, z)."""
        return tuple(float(n) for n in (self.affine @ (*voxel, 1.0))[:3])

    def planes(self) -> tuple[str, str, str]:
        """For each axis (x, y, z) the anatomical plane that its slices come closest to: sagittal, coronal or axial."""
        return tuple(("sagittal", "coronal", "axial")[int(axis)] for axis in io_orientation(self.affine)[:, 0])

    def distance(self, other: Geometry) -> float:
        """Largest distance between corresponding corner voxels in mm; 0 if one of the two is not known."""
        if not (self.known and other.known):
            return 0.0
        corners = np.array([(*corner, 1.0) for corner in product(*[(0, size - 1) for size in self.size])])
        return float(np.linalg.norm(corners @ (self.affine - other.affine).T, axis=1).max())

    def difference(self, other: Geometry) -> str:
        """How far another grid lies from this one, in words: mm between the origins, degrees between the axes, mm at most.

        >>> one = Geometry.of_facts((2, 2, 2), (1, 1, 1), (0, 0, 0), np.eye(3).ravel())
        >>> one.difference(Geometry.of_facts((2, 2, 2), (1, 1, 1), (0, 3, 0), np.eye(3).ravel()))
        'up to 3 mm away (origins 3 mm apart)'
        """
        parts = []
        if (apart := float(np.linalg.norm(np.subtract(self.origin, other.origin)))) > 1e-3:
            parts.append(f"origins {apart:.3g} mm apart")
        cosines = (self.matrix / np.asarray(self.spacing) * (other.matrix / np.asarray(other.spacing))).sum(axis=0)
        if (angle := float(np.degrees(np.arccos(np.clip(cosines, -1, 1))).max())) > 0.01:
            parts.append(f"axes turned by {angle:.3g} degrees")
        if not np.allclose(self.spacing, other.spacing):
            parts.append(f"voxels of {_by(other.spacing)} instead of {_by(self.spacing)} mm")
        return f"up to {self.distance(other):.3g} mm away ({', '.join(parts)})"

    def fits(self, other: Geometry) -> bool:
        """Whether corresponding voxels coincide, up to rounding."""
        return self.distance(other) <= GRID_TOLERANCE * min(self.spacing)


def other_geometries(file: Path) -> list[Geometry]:
    """The geometries in a NIfTI header (``qform``, ``sform``) that ITK does not go by, where they differ from the one that it goes by.

    If both have a code, ITK (so nnU-Net, 3D Slicer, ITK-SNAP, MITK) goes by the ``sform`` if that is the scanner's (code 1), else by
    the ``qform``; nibabel always by the ``sform``. If neither has one, the origin is the first voxel in ITK, the middle one in nibabel.

    Returns:
        Nothing if there is one geometry only, up to rounding, or if the file is no NIfTI file that can be read.
    """
    try:
        if not Path(file).name.lower().endswith(NIFTI):
            return []
        header, used = with_positive_steps(read_nifti_header(file)), Geometry.of_file(file)
        forms = [header.get_qform(coded=True)[0], header.get_sform(coded=True)[0], header.get_best_affine()]
    except (RuntimeError, ValueError, OSError, HeaderDataError):  # reported where the voxels are read
        return []
    found = [used]
    for grid in (Geometry.of_ras(used.size, form) for form in forms if form is not None):
        if not any(one.fits(grid) for one in found):
            found.append(grid)
    return found[1:]


def size_then_and_now(before: Path, image: Path) -> tuple[str, str] | None:
    """The size in voxels (x x y x z) of a file made for an image, and of the image, if they differ; only headers are read.

    Also None if one of the two has no known size or cannot be read.
    """
    if not (carries_geometry(before.name) and carries_geometry(image.name) and before.is_file()):
        return None
    try:
        then, now = Geometry.of_file(before).size, Geometry.of_file(image).size
    except (RuntimeError, ValueError, OSError):  # reported where the voxels are read
        return None
    return None if then == now else (_by(then), _by(now))


def _by(numbers: Sequence[float]) -> str:
    return " x ".join(f"{number:.6g}" for number in numbers)
