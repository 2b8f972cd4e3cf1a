"""Labels as DICOM files: segmentations and structure sets. ITK must not read them: without an error, it reads the frames of a
segmentation as slices 1 mm apart.

Nothing from a patient's header is kept or shown.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnunet_active.data.dicom_contours import STRUCTURE_SET, fill_structure_set
from nnunet_active.data.dicom_planes import INSTALL, without_warnings
from nnunet_active.data.dicom_seg import SEGMENTATIONS, place_segmentation
from nnunet_active.data.geometry import Geometry
from nnunet_active.data.segments import Segment
from nnunet_active.util.errors import BadCase

if TYPE_CHECKING:
    from pydicom import Dataset

_SAID = re.compile(rb"1\.2\.840\.10008\.5\.1\.4\.1\.1\.(66\.[47]|481\.3)(?![.\d])")
_UNKNOWN = 0xFFFFFFFF  # an undefined length: an end mark follows instead
_MISSING = f"is a DICOM file; {INSTALL} brings what reads it"


def is_dicom_label(file: Path) -> bool:
    """Whether a file's beginning identifies it as a DICOM segmentation or structure set; nothing else of it is read."""
    try:
        with file.open("rb") as content:
            head = content.read(1024)
    except OSError:
        return False
    return head[128:132] == b"DICM" and _SAID.search(head) is not None


def read_dicom_label(file: Path, image: Geometry, what: str) -> tuple[np.ndarray, Geometry, list[Segment], list[str]]:
    """Read a DICOM segmentation or structure set.

    Args:
        file: what to read.
        image: the grid of the image that it was drawn on.
        what: the file's name for messages.

    Returns:
        (layers, Z, Y, X) uint16, their grid, the segments, and how the file was read; several layers only if segments overlap.

    Raises:
        BadCase: pydicom is not installed; the file is damaged, of another kind, or has fractions; its content does not lie on
            slices of the image.
    """
    try:
        import pydicom
    except ImportError:
        raise BadCase(f"{what} {_MISSING}.") from None
    try:
        with without_warnings():
            content = pydicom.dcmread(file)
            _check_whole(content)
            kind = content.get("SOPClassUID", pydicom.uid.UID(""))
            if kind == STRUCTURE_SET:
                return fill_structure_set(content, image, what)
            if kind in SEGMENTATIONS:
                return *place_segmentation(content, image, what), []
    except BadCase:
        raise
    except Exception as error:  # pydicom raises very different errors; their texts may quote the header
        raise BadCase(f"{what} cannot be read ({type(error).__name__}); save it again.") from error
    raise BadCase(f"{what} is no DICOM segmentation ({kind.name or 'of no known kind'}); export it as one.")


def _check_whole(content: Dataset) -> None:
    """Detect a file that was copied only in part: pydicom returns what is there, without an error."""
    for element in content.values():
        length, value = getattr(element, "length", None), element.value
        if isinstance(value, bytes) and length not in (None, _UNKNOWN) and len(value) < length:
            raise EOFError("the file ends in the middle of an element")
