"""Label maps as DICOM segmentations of the series that a case came from, written by highdicom.

The file refers to every image of the series and carries the patient's header, so it belongs where the series is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnunet_active import __version__
from nnunet_active.data.dicom_planes import INSTALL, without_warnings
from nnunet_active.data.dicom_series import DicomSeries
from nnunet_active.data.dicom_volume import DicomVolume
from nnunet_active.util.atomic import atomic_file
from nnunet_active.util.errors import ActiveError, BadCase, MissingInput
from nnunet_active.util.outputs import check_output_file

if TYPE_CHECKING:
    from pydicom import Dataset

_MAKER = "nnunet_active"
_LONGEST_NAME = 64  # characters in a value of the kind LO
_PREAMBLE = 128  # bytes at the beginning of a file that are the writing program's own
_SERIES_NUMBER = 9001  # higher than scanners use; our choice
# what the standard allows to be empty but not to be missing
_MAY_BE_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime"),
    *("AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator"),
)


def require_highdicom() -> None:
    """Raises:
    MissingInput: highdicom is not installed.
    """
    try:
        import highdicom  # noqa: F401
    except ImportError:
        raise MissingInput(
            f"DICOM segmentations are written by highdicom, which is not installed; {INSTALL} brings it."
        ) from None


def check_segment_names(names: Iterable[str]) -> None:
    """Raises:
    ActiveError: DICOM cannot hold a name whole, so that the segment would come back as another label or as none.
    """
    for name in names:
        if len(name) > _LONGEST_NAME or "\\" in name or not name.isprintable():
            raise ActiveError(
                f"The label {name!r} cannot be named in DICOM, whose names have at most {_LONGEST_NAME} printable characters and no "
                f"backslash; rename it in dataset.json."
            )


def write_dicom_seg(
    masks: Mapping[str, np.ndarray], colours: Mapping[str, tuple[int, int, int]], series: DicomSeries, file: Path
) -> None:
    """Write a binary DICOM segmentation, whole or not at all; it replaces only a file that is as this function wrote it.

    Args:
        masks: name of each segment -> (Z, Y, X) bool in the order of the series' slices; they may overlap.
        colours: name -> red, green, blue, 0 to 255.
        series: the volume that was segmented.
        file: where to.

    Raises:
        BadCase: the series' header lacks what a segmentation needs.
        ActiveError: another program's file is there, or one of this function's that was changed; a name cannot be written.
    """
    import highdicom as hd

    check_output_file(file, _is_ours, "a DICOM segmentation")
    if file.exists() and not _is_unchanged(file):
        raise ActiveError(
            f"{file} is no longer as nnunet_active wrote it; somebody may have corrected it, so it is not replaced: move it away, or "
            f"name another folder with -o."
        )
    check_segment_names(masks)
    volume = series.volume()
    with without_warnings():
        sources, order = _sources(volume)
        pixels = np.stack([mask[order] for mask in masks.values()], axis=-1).astype(np.uint8)
        try:
            made = hd.seg.Segmentation(
                sources,
                pixels,
                hd.seg.SegmentationTypeValues.BINARY,
                [_segment(number, name, colours[name]) for number, name in enumerate(masks, 1)],
                hd.UID(),
                _SERIES_NUMBER,
                hd.UID(),
                1,
                _MAKER,
                "nnU-Net",
                __version__,
                "none",
                series_description="nnU-Net segmentation",
            )
        except (AttributeError, KeyError, ValueError, TypeError) as error:  # its text may quote the header
            raise BadCase(
                f"has a header to which no DICOM segmentation can refer ({type(error).__name__}); export it again"
            ) from error
        with atomic_file(file) as temporary:
            made.save_as(temporary)
            _sign(temporary)


def _sources(volume: DicomVolume) -> tuple[list[Dataset], list[int]]:
    """The headers to refer to, and which slice each of their frames shows."""
    import pydicom

    files = list(dict.fromkeys(plane.file for plane in volume.planes))
    if 1 < len(files) < len(volume.planes):
        raise BadCase("is spread over several files of many frames, to which no DICOM segmentation can refer here")
    sources = []
    for file in files:
        header = pydicom.dcmread(file, stop_before_pixels=True)
        # the labels' names may have letters that the series' own set lacks
        header.decode()
        header.SpecificCharacterSet = "ISO_IR 192"
        for name in _MAY_BE_EMPTY:
            if name not in header:
                setattr(header, name, "")
        if not header.get("FrameOfReferenceUID"):
            raise BadCase("has no frame of reference, so that no DICOM segmentation can refer to it; export it again")
        _share(header)
        sources.append(header)
    frames = [plane.frame for plane in volume.planes]
    return sources, (np.argsort(frames).tolist() if len(files) == 1 else list(range(len(frames))))


def _share(header: Dataset) -> None:
    """An enhanced file may repeat for every frame what all frames share; highdicom needs it in the shared part."""
    frames = header.get("PerFrameFunctionalGroupsSequence")
    if not frames:
        return
    if not header.get("SharedFunctionalGroupsSequence"):
        header.SharedFunctionalGroupsSequence = [type(header)()]
    shared = header.SharedFunctionalGroupsSequence[0]
    for name in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
        if name not in shared and name in frames[0]:
            shared[name] = frames[0][name]


def _segment(number: int, name: str, colour: tuple[int, int, int]) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    network = hd.AlgorithmIdentificationSequence("nnU-Net", codes.cid7162.ArtificialIntelligence, "2")
    tissue = codes.SCT.Tissue  # no code for the label is known; its name says what it is
    automatic = hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC
    shown = hd.color.CIELabColor.from_rgb(*colour)
    return hd.seg.SegmentDescription(number, name, tissue, tissue, automatic, network, display_color=shown)


def _is_ours(file: Path) -> bool:
    import pydicom

    return pydicom.dcmread(file, stop_before_pixels=True).Manufacturer == _MAKER


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content[_PREAMBLE:]).hexdigest().encode()


def _sign(file: Path) -> None:
    """Put the digest of a file into its preamble. A tool that corrects segments may leave the whole header as it was."""
    digest = _digest(file.read_bytes())
    with file.open("rb+") as content:
        content.write(digest)


def _is_unchanged(file: Path) -> bool:
    content = file.read_bytes()
    return content.startswith(_digest(content))
