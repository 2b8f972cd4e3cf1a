"""DICOM labels as other programs make them: segmentations by highdicom over a made-up series, structure sets by pydicom; skipped
without these."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from skimage.measure import find_contours

# the axes of an image (x, y, z) that become the axes of the DICOM file (columns, rows, slices), and which of them run the other way
TURNS = {"as it is": ((0, 1, 2), ()), "turned round": ((0, 1, 2), (1, 2)), "sagittal": ((1, 2, 0), (1,))}


def turned(array: np.ndarray, affine: np.ndarray, turn: tuple[tuple[int, ...], tuple[int, ...]]):
    """The same voxels, (..., Z, Y, X), in another order, and the matrix that says where they lie."""
    axes, flipped = turn
    moved, steps = np.moveaxis(array, [-1 - axis for axis in axes], [-1, -2, -3]), affine[:, [*axes, 3]].copy()
    for axis in flipped:
        moved = np.flip(moved, -1 - axis)
        steps[:3, 3] += steps[:3, axis] * (moved.shape[-1 - axis] - 1)
        steps[:3, axis] *= -1
    return moved, steps


def series(shape: tuple[int, int, int], affine: np.ndarray) -> list:
    """One CT image per slice."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    study, this, frame_of_reference = (generate_uid() for _ in range(3))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / spacing
    found = []
    for index in range(shape[0]):
        one = pydicom.Dataset()
        one.file_meta = pydicom.dataset.FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.SOPClassUID, one.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", generate_uid()
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, this, frame_of_reference
        one.PatientName, one.PatientID, one.Modality = "Secret^Person", "4711", "CT"
        one.PatientBirthDate = one.PatientSex = one.StudyID = one.AccessionNumber = one.PositionReferenceIndicator = ""
        one.StudyDate, one.StudyTime, one.InstanceNumber = "20260101", "120000", index + 1
        one.Rows, one.Columns = shape[1:]
        one.ImageOrientationPatient = [f"{n:.12g}" for n in directions[:, :2].T.ravel()]
        one.ImagePositionPatient = [f"{n:.12g}" for n in (affine @ (0, 0, index, 1))[:3]]
        one.PixelSpacing, one.SliceThickness = [f"{n:.12g}" for n in spacing[[1, 0]]], f"{spacing[2]:.12g}"
        one.SamplesPerPixel, one.PhotometricInterpretation, one.PixelRepresentation = 1, "MONOCHROME2", 0
        one.BitsAllocated, one.BitsStored, one.HighBit = 16, 16, 15
        found.append(one)
    return found


def write_series(folder: Path, voxels: np.ndarray, affine: np.ndarray, **said) -> list[Path]:
    """A series with its pixels, (Z, Y, X) uint16 or int16, one file a slice, and further attributes."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for index, (one, plane) in enumerate(zip(series(voxels.shape, affine), voxels, strict=True)):
        one.PixelRepresentation, one.PixelData = int(voxels.dtype.kind == "i"), plane.tobytes()
        for name, value in said.items():
            setattr(one, name, value)
        one.save_as(
            folder / f"{voxels.shape[0] - index:04d}", enforce_file_format=True
        )  # not in the order of the slices
        files.append(folder / f"{voxels.shape[0] - index:04d}")
    return files


def change(file: Path, **said) -> None:
    """Attributes of a file that is there."""
    pydicom = pytest.importorskip("pydicom")
    content = pydicom.dcmread(file)
    for name, value in said.items():
        setattr(content, name, value)
    content.save_as(file)


def write_enhanced(file: Path, voxels: np.ndarray, affine: np.ndarray, slope: float = 1) -> Path:
    """The same volume as one enhanced multi-frame file, its frames from the last slice to the first."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.uid import generate_uid

    planes = series(voxels.shape, affine)[::-1]
    made = planes[0]
    made.SOPClassUID, made.SOPInstanceUID, made.Modality = "1.2.840.10008.5.1.4.1.1.4.1", generate_uid(), "MR"
    shared, measures = pydicom.Dataset(), pydicom.Dataset()
    measures.PixelSpacing, measures.SliceThickness = made.PixelSpacing, made.SliceThickness
    shared.PixelMeasuresSequence = [measures]
    frames = []
    for one in planes:
        frame, place, turned_to, values = (pydicom.Dataset() for _ in range(4))
        place.ImagePositionPatient, turned_to.ImageOrientationPatient = (
            one.ImagePositionPatient,
            one.ImageOrientationPatient,
        )
        values.RescaleSlope, values.RescaleIntercept, values.RescaleType = slope, 0, "US"
        frame.PlanePositionSequence, frame.PlaneOrientationSequence = [place], [turned_to]
        frame.PixelValueTransformationSequence = [values]
        frames.append(frame)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(made, name)
    made.SharedFunctionalGroupsSequence, made.PerFrameFunctionalGroupsSequence = [shared], frames
    made.NumberOfFrames, made.PixelData = len(frames), np.ascontiguousarray(voxels[::-1]).tobytes()
    file.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(file, enforce_file_format=True)
    return file


def write_dicom(
    file: Path, masks: np.ndarray, names: list[str], affine: np.ndarray, kind: str = "BINARY", **how
) -> Path:
    """Of masks (segments, Z, Y, X), which may overlap unless ``kind`` is LABELMAP; only frames with voxels are written."""
    hd = pytest.importorskip("highdicom")
    from pydicom.sr.codedict import codes

    described = [
        hd.seg.SegmentDescription(n, name, codes.SCT.Organ, codes.SCT.Organ, hd.seg.SegmentAlgorithmTypeValues.MANUAL)
        for n, name in enumerate(names, 1)
    ]
    pixels = np.moveaxis(masks, 0, -1).astype(np.uint8)
    if kind == "LABELMAP":
        pixels = (pixels * np.arange(1, len(names) + 1, dtype=np.uint8)).max(axis=-1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = hd.seg.Segmentation(
            source_images=series(masks.shape[1:], affine),
            pixel_array=pixels,
            segmentation_type=kind,
            segment_descriptions=described,
            series_instance_uid=hd.UID(),
            series_number=2,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer="nobody",
            manufacturer_model_name="none",
            software_versions="1",
            device_serial_number="1",
            **how,
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        made.save_as(file)
    return file


def write_structure_set(
    file: Path, rois: list[tuple[str, list[np.ndarray]]], kind: str = "CLOSED_PLANAR", digits: int = 2
) -> Path:
    """Of regions: name, and contours (points, 3) in mm, written with so many digits, as planning systems do."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    made = pydicom.Dataset()
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.481.3", generate_uid()
    made.PatientName, made.PatientID, made.Modality = "Secret^Person", "4711", "RTSTRUCT"
    made.StructureSetROISequence, made.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(rois, 11):
        said, drawn = pydicom.Dataset(), pydicom.Dataset()
        said.ROINumber, said.ROIName, drawn.ReferencedROINumber, drawn.ContourSequence = number, name, number, []
        for contour in contours:
            one = pydicom.Dataset()
            one.ContourGeometricType, one.NumberOfContourPoints = kind, len(contour)
            one.ContourData = [f"{n:.{digits}f}" for n in np.ravel(contour)]
            drawn.ContourSequence.append(one)
        made.StructureSetROISequence.append(said)
        made.ROIContourSequence.append(drawn)
    file.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(file, enforce_file_format=True)
    return file


def contours_of(mask: np.ndarray, affine: np.ndarray, axis: int = 2) -> list[np.ndarray]:
    """Around a mask (Z, Y, X), by marching squares in each slice along an axis of (x, y, z); (points, 3) in mm each."""
    found = []
    for index, plane in enumerate(np.moveaxis(mask, 2 - axis, 0)):
        for line in find_contours(np.pad(plane, 1).astype(float), 0.5):
            voxels = np.insert(line[:-1, ::-1] - 1, axis, index, axis=1)
            found.append(voxels @ affine[:3, :3].T + affine[:3, 3])
    return found
