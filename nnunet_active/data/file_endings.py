"""The endings of image and label files, and what they say about the files."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterable
from pathlib import Path

NIFTI = (".nii.gz", ".nii")
# Formats that store the geometry; ITK reads all of them.
SPATIAL_ENDINGS = (*NIFTI, ".nrrd", ".nhdr", ".mha", ".mhd", ".gipl.gz", ".gipl")
DICOM_ENDING = ".dcm"  # a segmentation or a structure set; ITK must not read it
MITK_ENDING = ".mitk.nrrd"  # MITK users name their segmentations like this
SLICER_ENDING = ".seg.nrrd"  # a segmentation of 3D Slicer: a NRRD file whose header names segments
# Formats that may hold all channels in one file: nnU-Net reads an RGB picture as three channels from CASE_0000.png.
PICTURE_ENDINGS = (".png", ".bmp", ".tif")
IMAGE_ENDINGS = (*SPATIAL_ENDINGS, *PICTURE_ENDINGS, ".tiff", ".jpg", ".jpeg")


def carries_geometry(name: str) -> bool:
    """Whether files with this name or ending store their geometry."""
    return name.lower().endswith(SPATIAL_ENDINGS)


def is_native(label: Path, ending: str) -> bool:
    """Whether a label file is in the data set's own format, and not another program's segmentation with the same last ending."""
    return label.name.endswith(ending) and not label.name.lower().endswith((SLICER_ENDING, MITK_ENDING))


def label_stems(name: str, ending: str) -> list[str]:
    """The case names that a label file's name may mean, the most specific ending first; none if it is in no label format.

    Accents are composed (Unicode NFC): macOS writes them as separate characters, but the name is the same.

    Args:
        name: of the file.
        ending: the data set's own file ending.

    >>> label_stems("a.seg.nrrd", ".nii.gz"), label_stems("a.PNG", ".png"), label_stems("a.png", ".nii.gz")
    (['a', 'a.seg'], ['a'], [])
    """
    name = unicodedata.normalize("NFC", name)
    endings = sorted({*SPATIAL_ENDINGS, SLICER_ENDING, MITK_ENDING, DICOM_ENDING, ending}, key=len, reverse=True)
    return [name[: -len(one)] for one in endings if name.lower().endswith(one.lower())]


def other_images(names: Iterable[str], ending: str) -> list[str]:
    """Names of image files with another ending than the data set's, sorted; hidden files do not count."""
    return sorted(
        name
        for name in names
        if name.lower().endswith(IMAGE_ENDINGS) and not name.endswith(ending) and not name.startswith(".")
    )


def is_special(file: Path) -> bool:
    """Whether reading a file could block for ever: a pipe, a socket or a device, or a link to one."""
    try:
        mode = os.stat(file).st_mode
    except OSError:  # missing, or a broken link
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)
