"""Images in DICOM files, plane by plane: a classic file holds one plane, an enhanced multi-frame file many. This module reads only
headers; the voxels are read when they are needed.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnunet_active.util.errors import MissingInput

if TYPE_CHECKING:
    from pydicom import Dataset

INSTALL = 'pip install "nnunet_active[dicom]"'
_DIRECTORY = "1.2.840.10008.1.3.10"
# what distinguishes images of one position: time points, echoes, b-values
_MOMENT = (
    *("TemporalPositionIdentifier", "TriggerTime", "EchoNumbers", "EchoTime", "DiffusionBValue", "AcquisitionNumber"),
    *("ImageType", "AcquisitionTime", "ContentTime"),
)
_TAGS = [
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "StudyDate", "Modality"),
    *("SeriesDescription", "ProtocolName", "SeriesNumber", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel"),
    *("PhotometricInterpretation", "BitsStored", "ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing"),
    *("SliceThickness", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", *_MOMENT),
]


@dataclass(frozen=True, eq=False)
class DicomPlane:
    """One image.

    Attributes:
        file: where it is stored.
        frame: its frame in the file, from 0.
        instance: UID of the file's content, and the frame.
        shape: rows, columns.
        origin: mm of the middle of its first pixel; None if the header does not say.
        directions: (2, 3), along a row and along a column; None if the header does not say.
        steps: mm from column to column, and from row to row; None if the header does not say.
        thickness: mm; None if the header does not say.
        slope: with ``intercept``, the rescaling of the stored values.
        intercept: see ``slope``.
        moment: attribute -> text, for what distinguishes images of one position.
        fault: why it cannot be used, as the end of a sentence that begins with the series; empty if it can.
        note: what is odd about it, in the same form.
    """

    file: Path
    frame: int
    instance: tuple[str, int]
    shape: tuple[int, int]
    origin: np.ndarray | None
    directions: np.ndarray | None
    steps: tuple[float, float] | None
    thickness: float | None
    slope: float
    intercept: float
    moment: dict[str, str]
    fault: str = ""
    note: str = ""

    def lies_where(self, other: DicomPlane) -> bool:
        """Whether another image has the same place and the same directions, or both say neither."""
        pairs = ((self.origin, other.origin), (self.directions, other.directions))
        return all(
            one is two or (one is not None and two is not None and np.allclose(one, two, rtol=0, atol=1e-3))
            for one, two in pairs
        )


def require_pydicom() -> None:
    """Raises:
    MissingInput: pydicom is not installed.
    """
    try:
        import pydicom  # noqa: F401
    except ImportError:
        raise MissingInput(f"DICOM files are read by pydicom, which is not installed; {INSTALL} brings it.") from None


@contextmanager
def without_warnings() -> Iterator[None]:
    """Suppress pydicom's warnings, because they quote the header."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_dicom_header(file: Path) -> Dataset | None:
    """The needed part of a DICOM file's header; None if the file is of another kind, or the index of a disk (DICOMDIR).

    Raises:
        Exception: whatever pydicom raises for a damaged file.
    """
    import pydicom

    with file.open("rb") as content:
        if content.read(132)[128:] != b"DICM":
            return None
    with without_warnings():
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS)
        return None if header.file_meta.get("MediaStorageSOPClassUID") == _DIRECTORY else header


def planes_of(header: Dataset, file: Path) -> list[DicomPlane]:
    """The images of a file.

    Raises:
        Exception: whatever pydicom and numpy raise for a damaged header.
    """
    with without_warnings():
        fault, number = _fault(header), int(header.get("NumberOfFrames") or 1)
        frames = header.get("PerFrameFunctionalGroupsSequence")
        if frames is None:
            if number > 1:
                fault = (
                    fault
                    or "has files of several frames that do not say where each frame lies; export it as single images"
                )
            return [_plane(header, header, file, 0, fault)]
        if len(frames) != number:
            fault = fault or f"has a file of {number} frames that describes {len(frames)}; copy it again"
        shared = header.get("SharedFunctionalGroupsSequence") or [type(header)()]
        return [_plane(header, _frame(own, shared[0]), file, index, fault) for index, own in enumerate(frames)]


def _frame(own: Dataset, shared: Dataset) -> Dataset:
    """The attributes of one frame of an enhanced file, in the form that a classic file has."""
    flat = type(own)()
    for group in (shared, own):
        for element in group:
            # what makers put into sequences of their own may bear public names, and say where another plane lies
            if element.VR == "SQ" and element.value and not element.tag.is_private:
                flat.update(element.value[0])
    return flat


def _plane(header: Dataset, place: Dataset, file: Path, frame: int, fault: str) -> DicomPlane:
    origin, directions = _numbers(place, "ImagePositionPatient", 3), _numbers(place, "ImageOrientationPatient", 6)
    spacing, thickness = _numbers(place, "PixelSpacing", 2), _numbers(place, "SliceThickness", 1)
    slope, intercept = _numbers(place, "RescaleSlope", 1), _numbers(place, "RescaleIntercept", 1)
    inverted = header.get("PhotometricInterpretation") == "MONOCHROME1"
    return DicomPlane(
        file,
        frame,
        (str(header.SOPInstanceUID), frame),
        (int(header.get("Rows") or 0), int(header.get("Columns") or 0)),
        origin,
        None if directions is None else directions.reshape(2, 3),
        None if spacing is None or not (spacing > 0).all() else (float(spacing[1]), float(spacing[0])),
        None if thickness is None else float(thickness[0]),
        1.0 if slope is None else float(slope[0]),
        0.0 if intercept is None else float(intercept[0]),
        {name: str(place.get(name, header.get(name))) for name in _MOMENT},
        fault,
        "is stored inverted (MONOCHROME1: high values are dark); its values are taken as they are stored"
        if inverted
        else "",
    )


def _numbers(place: Dataset, name: str, count: int) -> np.ndarray | None:
    value: Any = place.get(name)
    if value is None or value == "":
        return None
    found = np.atleast_1d(np.asarray(value, dtype=np.float64))
    if found.shape != (count,) or not np.isfinite(found).all():
        raise ValueError(f"{name} is no list of {count} numbers")
    return found


def _fault(header: Dataset) -> str:
    """What in a file's header makes its voxels unusable here."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import JPEGExtended12Bit

    if int(header.get("SamplesPerPixel") or 1) > 1 or not str(
        header.get("PhotometricInterpretation") or "MONOCHROME"
    ).startswith("MONOCHROME"):
        return "holds colours; export grey values"
    if header.get("ModalityLUTSequence"):
        return "has values that mean something by a table only (Modality LUT); export it with a rescale slope"
    syntax = header.file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        return ""
    try:
        plugins = set(get_decoder(syntax).available_plugins)
    except NotImplementedError:
        return f"is compressed ({syntax.name}), which nothing here can decode; export it uncompressed"
    if syntax == JPEGExtended12Bit and int(header.get("BitsStored") or 8) != 8:
        # they name it as theirs, and then refuse all but 8 bits
        plugins -= {"pillow", "gdcm"}
    if plugins:
        return ""
    brings = "pylibjpeg-openjpeg" if "2000" in syntax.name else "pylibjpeg-libjpeg"
    return (
        f"is compressed ({syntax.name}), and nothing that is installed can decode that; pip install pylibjpeg {brings}, or export it "
        f"uncompressed"
    )
