"""Problems in an image file's header that nnU-Net would not notice, or not explain; each with a remedy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_active.data.file_endings import NIFTI, carries_geometry
from nnunet_active.data.geometry import Geometry
from nnunet_active.data.nifti import nifti_shape, read_nifti_header

OBLIQUE_AXES = (
    'its axes are not at right angles (a tilted gantry): set "overwrite_image_reader_writer": "NibabelIO" in dataset.json and plan '
    "again, which takes the scan as it is, or resample it"
)


def header_fault(file: Path) -> str | None:
    """What in a file's header rules it out as a channel, and what to do, as the end of a sentence; None if nothing does.

    An unreadable file passes; the code that reads the voxels reports it.
    """
    if not carries_geometry(file.name):
        return None
    if file.name.lower().endswith(NIFTI):
        try:
            header = read_nifti_header(file)
        except (ValueError, OSError, EOFError):
            return None
        steps = np.asarray(header["pixdim"][1 : 1 + min(len(nifti_shape(header)), 3)], dtype=float)
        if not (np.isfinite(steps) & (steps != 0)).all():
            return (
                f"says that its voxels are {' x '.join(f'{step:g}' for step in steps)} mm; save it again with the spacing of the scan, "
                f"which its DICOM series knows"
            )
    try:
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(file))
        reader.ReadImageInformation()
    except RuntimeError:
        return None
    if "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelID()):
        return "holds complex numbers; save their magnitude (and the phase, if it matters, as a further channel)"
    if (values := reader.GetNumberOfComponents()) > 1:
        return (
            f"has {values} values per voxel (colours or vectors), but nnU-Net takes one number per voxel; save a grey image, or each "
            f"value as a channel of its own (CASE_0000, CASE_0001 ...)"
        )
    return None


def volumes_in(file: Path) -> int:
    """How many 3-D images a file holds: more than one if it has a fourth axis."""
    if not carries_geometry(file.name):
        return 1
    try:
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(file))
        reader.ReadImageInformation()
    except RuntimeError:
        return 1
    return int(np.prod(reader.GetSize()[3:], dtype=int))


def channels_apart(images: Sequence[Path]) -> str:
    """How far apart the channels of a case lie, in words; empty if they share one grid, up to rounding.

    Only headers are read; a file that cannot be read is left out.
    """
    grids: dict[Path, Geometry] = {}
    for file in images:
        try:
            grids[file] = Geometry.of_file(file)
        except (RuntimeError, ValueError, OSError):
            continue
    first, *others = grids or [None]
    apart = [
        f"{file.name} lies {grids[first].difference(grids[file])} from {first.name}"
        for file in others
        if not grids[first].fits(grids[file])
    ]
    return "; ".join(apart)
