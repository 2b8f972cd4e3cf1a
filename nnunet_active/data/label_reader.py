"""Label files as annotators save them: finds them by name, reads any of the usual formats, and converts them to the image's grid and
the data set's values.

It reads NIfTI, NRRD, 3D Slicer's ``.seg.nrrd``, MetaImage, GIPL, DICOM segmentations and structure sets, and the format of the
data set's own images. The annotator's file is only read, never moved, changed or deleted.
"""

from __future__ import annotations

import contextlib
import io
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunet_active.data.dataset_json import allowed_label_values, ignore_value
from nnunet_active.data.dicom_label import is_dicom_label, read_dicom_label
from nnunet_active.data.file_endings import DICOM_ENDING, NIFTI, carries_geometry, label_stems
from nnunet_active.data.geometry import Geometry, other_geometries
from nnunet_active.data.image_checks import check_label, check_label_values, count_not_finite
from nnunet_active.data.itk_files import read_itk
from nnunet_active.data.label_grid import place_by_either
from nnunet_active.data.maps import to_file_order
from nnunet_active.data.segments import Segment, map_segments, segments_of
from nnunet_active.util.errors import BadCase
from nnunet_active.util.folders import files_below

_CHANNEL = re.compile(r"_\d{4}")
_SAVED_BESIDE = re.compile(r"([_(].*\.seg|_\d{4}_label)\.nrrd", re.IGNORECASE)


@dataclass(frozen=True)
class AnnotatedLabel:
    """A label on the grid of its image.

    Attributes:
        voxels: (Z, Y, X) uint8 or uint16, in the order in which the image file stores its voxels.
        notes: how the file was read, if that is not obvious.
    """

    voxels: np.ndarray
    notes: tuple[str, ...] = ()


def find_label_files(folder: Path, cases: Iterable[str], ending: str) -> tuple[dict[str, list[Path]], list[Path]]:
    """Label files below ``folder`` that have the name of a case.

    Args:
        folder: searched at any depth, including links; hidden and temporary files are skipped.
        cases: case identifiers.
        ending: the data set's own file ending.

    Returns:
        case -> its files, sorted; and the files in a label format that have no case's name. Files that look like an image channel or an
        uncertainty map are skipped, but a channel's file is reported if no other file has the case's name. In a
        folder with a case's name, ``CASE_READER.seg.nrrd``, ``CASE(1).seg.nrrd`` and ``CASE_0000_label.nrrd`` are its labels, because
        modules of 3D Slicer save them like this.
    """
    known = set(cases)
    found: dict[str, list[Path]] = {}
    others: list[Path] = []
    channels: dict[Path, str] = {}
    for file in files_below(folder):
        within = file.relative_to(folder)
        if any(part.startswith(".") for part in within.parts) or not file.is_file():
            continue
        stems = label_stems(file.name, ending)
        name, above = (unicodedata.normalize("NFC", one) for one in (file.name, file.parent.name))
        # in the folder of case X, X_0000 is its first channel, though another case may be called X_0000
        is_channel = above in known and stems and _CHANNEL.fullmatch(stems[0].removeprefix(above))
        case = None if is_channel else next((stem for stem in stems if stem in known), None)
        if case is None and above in known and _SAVED_BESIDE.fullmatch(name.removeprefix(above)):
            case = above
        if case is not None:
            found.setdefault(case, []).append(file)
        elif stems and (not file.name.lower().endswith(DICOM_ENDING) or is_dicom_label(file)):
            case, _, last = stems[0].rpartition("_")
            if case not in known:
                others.append(file)
            elif len(last) == 4 and last.isdecimal():
                channels[file] = case
            elif last not in ("uncertainty", "prediction"):
                others.append(file)
    others += [file for file, case in channels.items() if case not in found]
    return found, sorted(others)


def read_label(
    case: str, file: Path, image: Path, dataset_json: dict, reader: type[BaseReaderWriter], ending: str
) -> AnnotatedLabel:
    """Read an annotator's file onto the grid of the case's image, with the values of the data set.

    Segments of a 3D Slicer segmentation are matched by name, then by label value. Integers stored as floating-point numbers
    are accepted. A box smaller or larger than the image, or axes in another order, are moved by whole voxels.

    Args:
        case: identifier, for messages.
        file: the annotator's file.
        image: the case's first channel.
        dataset_json: for the labels.
        reader: nnU-Net's reader of the data set, for formats that ITK does not read.
        ending: the data set's own file ending.

    Raises:
        BadCase: the file cannot be read, has values between integers, unknown segments or values, or another grid; one sentence.
    """
    what = f"Case {case}: the label {file}"
    if file.name.lower().endswith(DICOM_ENDING):
        layers, grid, segments, said = read_dicom_label(file, _geometry(case, image), what)
        label = _understood(_placed(layers, grid, (case, file, image, reader)), segments, dataset_json, what)
        return replace(label, notes=(*label.notes, *said))
    if not carries_geometry(file.name):
        return _read_natively(case, file, image, dataset_json, reader)
    try:
        unusable = count_not_finite(file)
        content = read_itk(file)
        header = {key: content.GetMetaData(key) for key in content.GetMetaDataKeys()}
        parts = content.GetNumberOfComponentsPerPixel()
        segments = segments_of(header, parts)
    except Exception as error:  # SimpleITK, nibabel and gzip raise very different errors for a damaged file
        if file.name.endswith(ending) and not file.name.lower().endswith(".nrrd"):
            # the data set's reader may accept a file that ITK rejects (a sheared NIfTI); the reader then checks its grid
            return _read_natively(case, file, image, dataset_json, reader)
        raise BadCase(f"{what} cannot be read ({last_line(error)}); save it again.") from error
    voxels = sitk.GetArrayFromImage(content)
    if unusable or (voxels.dtype.kind == "f" and not np.isfinite(voxels).all()):
        raise BadCase(f"{what} has NaN or infinite voxels; save it again as a label map of integers.")
    layers = np.moveaxis(voxels, -1, 0) if parts > 1 else voxels[None]
    if parts > 1 and not segments:
        raise BadCase(f"{what} has {parts} values per voxel and names no segments; save it as a label map.")
    layers = whole_numbers(layers, what)
    grid = Geometry.of_itk(content)
    if grid.dimension == 4 and content.GetSize()[3] == 1:  # some programs write such NIfTI files
        grid = Geometry.of_itk(content[:, :, :, 0])
        layers = layers[:, 0]
    if grid.dimension == 2:
        layers = layers[:, None]
    return _understood(_placed(layers, grid, (case, file, image, reader)), segments, dataset_json, what)


def _understood(
    placed: tuple[np.ndarray, str], segments: list[Segment], dataset_json: dict, what: str
) -> AnnotatedLabel:
    """Layers on the grid of the image, with the values of the data set."""
    layers, moved = placed
    notes = [moved] if moved else []
    if segments:
        label, said = map_segments(layers, segments, dataset_json, what)
        notes += said
    else:
        label = layers[0]
    check_label_values(what, np.unique(label), allowed_label_values(dataset_json), ignore_value(dataset_json))
    return AnnotatedLabel(_compact(label, what), tuple(notes))


def _geometry(case: str, image: Path) -> Geometry:
    """The geometry of an image, for label files that have none of their own."""
    if not carries_geometry(image.name):
        raise BadCase(
            f"Case {case}: the image {image} does not say where it lies, so that no DICOM file can lie on it."
        )
    try:
        return Geometry.of_file(image)
    except (RuntimeError, ValueError, OSError) as error:
        raise BadCase(f"Case {case}: the image {image} cannot be read ({last_line(error)}); replace it.") from error


def _placed(
    layers: np.ndarray, grid: Geometry, of: tuple[str, Path, Path, type[BaseReaderWriter]]
) -> tuple[np.ndarray, str]:
    """On the grid of the image; voxel by voxel if the image's format has no geometry."""
    case, file, image, reader = of
    what = f"Case {case}: the label {file}"
    try:
        if carries_geometry(image.name):
            # programs that go by NIfTI's other geometry save NIfTI files
            others = other_geometries(image) if file.name.lower().endswith(NIFTI) else []
            return place_by_either(layers, grid, Geometry.of_file(image, layers.shape[1:]), others, what)
        with contextlib.redirect_stdout(io.StringIO()):
            shape = reader().read_images([str(image)])[0].shape[1:]
    except (RuntimeError, ValueError, OSError) as error:
        raise BadCase(f"Case {case}: the image {image} cannot be read ({last_line(error)}); replace it.") from error
    if layers.shape[1:] != shape:
        raise BadCase(f"{what} has {layers.shape[1:]} voxels, its image {shape} (Z, Y, X); save it as the image is.")
    return layers, ""


def whole_numbers(voxels: np.ndarray, what: str) -> np.ndarray:
    """Voxels of a label as uint16; floating-point numbers are accepted if they are whole.

    Raises:
        BadCase: they are not whole, or are not label values; ``what`` is the file's name in the sentence.
    """
    if voxels.dtype.kind == "f":
        between = int(np.count_nonzero(voxels != np.rint(voxels)))
        if between:
            raise BadCase(
                f"{what} has {between} voxels with values between integers (e.g. {voxels[voxels != np.rint(voxels)][0]:g}), as "
                f"interpolation leaves them; save it as a label map, resampled with nearest neighbours if at all."
            )
    if voxels.size and (voxels.min() < 0 or voxels.max() > np.iinfo(np.uint16).max):
        raise BadCase(
            f"{what} has values from {voxels.min():g} to {voxels.max():g}, which are no labels; correct the label."
        )
    return voxels.astype(np.uint16)


def _compact(label: np.ndarray, what: str) -> np.ndarray:
    if label.ndim != 3:
        raise BadCase(f"{what} has the shape {label.shape}, which is no label map; save it again.")
    return np.ascontiguousarray(label.astype(np.uint8 if label.size == 0 or label.max() < 256 else np.uint16))


def _read_natively(
    case: str, file: Path, image: Path, dataset_json: dict, reader: type[BaseReaderWriter]
) -> AnnotatedLabel:
    """With the reader of the data set; the file must already be on the image's grid."""
    check_label(case, file, [image], allowed_label_values(dataset_json), reader)
    with contextlib.redirect_stdout(io.StringIO()):
        label, properties = reader().read_seg(str(file))
    what = f"Case {case}: the label {file}"
    return AnnotatedLabel(_compact(whole_numbers(to_file_order(label[0], properties), what), what))


def last_line(error: Exception) -> str:
    """The last line of an image library's error, short enough for a message."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1][:160].strip()
