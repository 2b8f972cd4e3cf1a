"""Label files as annotators save them: found by name, read in any of the usual formats, brought onto the image's grid and the data
set's values, and written as nnU-Net wants them.

Read are NIfTI, NRRD, 3D Slicer's ``.seg.nrrd``, MetaImage, GIPL, and whatever else the data set's own images are in. The file that
an annotator saved is only read, never moved, changed or deleted.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunet_active.annotation.image_space import carries_geometry, to_file_order, write_map_like
from nnunet_active.data.dataset_json import allowed_label_values, ignore_value
from nnunet_active.data.image_checks import check_label, count_not_finite_in_nifti
from nnunet_active.data.segments import map_segments, segments_of
from nnunet_active.returned.label_grid import Grid, place
from nnunet_active.util.atomic import copy_file
from nnunet_active.util.errors import BadCase

ITK_ENDINGS = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".gipl.gz", ".gipl")


@dataclass(frozen=True)
class AnnotatedLabel:
    """A label on the grid of its image.

    Attributes:
        voxels: (Z, Y, X) uint8 or uint16, in the order in which the image file stores its voxels.
        notes: how it was understood, where that is not self-evident.
    """

    voxels: np.ndarray
    notes: tuple[str, ...] = ()


def find_label_files(folder: Path, cases: Iterable[str], ending: str) -> tuple[dict[str, list[Path]], list[Path]]:
    """Label files below ``folder`` that are named after a case.

    Args:
        folder: searched at any depth; hidden and temporary files are passed over.
        cases: case identifiers.
        ending: the data set's own file ending.

    Returns:
        case -> its files, sorted; and files in a label format that are named after no case (nor look like an image's channel or an
        uncertainty map).
    """
    known = set(cases)
    endings = sorted({*ITK_ENDINGS, ending}, key=len, reverse=True)
    found: dict[str, list[Path]] = {}
    others: list[Path] = []
    for file in sorted(Path(folder).rglob("*")):
        within = file.relative_to(folder)
        if any(part.startswith(".") for part in within.parts) or not file.is_file():
            continue
        stems = [file.name[: -len(one)] for one in endings if file.name.lower().endswith(one.lower())]
        case = next((stem for stem in stems if stem in known), None)
        if case is not None:
            found.setdefault(case, []).append(file)
        elif stems and not _is_an_image(stems[0], known):
            others.append(file)
    return found, others


def _is_an_image(stem: str, cases: set[str]) -> bool:
    case, _, last = stem.rpartition("_")
    return case in cases and (last == "uncertainty" or (len(last) == 4 and last.isdecimal()))


def read_label(
    case: str, file: Path, image: Path, dataset_json: dict, reader: type[BaseReaderWriter], ending: str
) -> AnnotatedLabel:
    """Read an annotator's file onto the grid of the case's image, with the values of the data set.

    Segments of a 3D Slicer segmentation are taken by name, then by label value. Integers that are stored as floating-point numbers
    are accepted; a box smaller or larger than the image, and other orders of the axes, are moved by whole voxels.

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
    if not file.name.lower().endswith(ITK_ENDINGS):
        return _read_natively(case, file, image, dataset_json, reader)
    try:
        unusable = count_not_finite_in_nifti(file)
        content = sitk.ReadImage(str(file))
        header = {key: content.GetMetaData(key) for key in content.GetMetaDataKeys()}
        parts = content.GetNumberOfComponentsPerPixel()
        segments = segments_of(header, parts)
    except Exception as error:  # SimpleITK, nibabel and gzip raise quite different things for a damaged file
        if file.name.endswith(ending) and not file.name.lower().endswith(".nrrd"):
            # a file that ITK dislikes (a sheared NIfTI) may be good for the reader of the data set, which then checks its grid
            return _read_natively(case, file, image, dataset_json, reader)
        raise BadCase(f"{what} cannot be read ({_last_line(error)}); save it again.") from error
    voxels = sitk.GetArrayFromImage(content)
    if unusable or (voxels.dtype.kind == "f" and not np.isfinite(voxels).all()):
        raise BadCase(f"{what} has NaN or infinite voxels; save it again as a label map of integers.")
    layers = np.moveaxis(voxels, -1, 0) if parts > 1 else voxels[None]
    if parts > 1 and not segments:
        raise BadCase(f"{what} has {parts} values per voxel and names no segments; save it as a label map.")
    layers = _integers(layers, what)
    grid = Grid.of_image(content)
    if len(grid.size) == 4 and grid.size[3] == 1:  # NIfTI files of some programs
        grid = Grid.of_image(content[:, :, :, 0])
        layers = layers[:, 0]
    try:
        reference = Grid.of_file(image)
    except RuntimeError as error:
        raise BadCase(f"Case {case}: the image {image} cannot be read ({_last_line(error)}); replace it.") from error
    layers = place(layers, grid, reference, what)
    notes: list[str] = []
    if segments:
        label, said = map_segments(layers, segments, dataset_json, what)
        notes += said
    else:
        label = layers[0]
    allowed = allowed_label_values(dataset_json)
    unknown = [int(value) for value in np.unique(label) if value not in allowed]
    if unknown:
        shown = ", ".join(map(str, unknown[:5])) + (" ..." if len(unknown) > 5 else "")
        raise BadCase(
            f"{what} has the value(s) {shown}, but dataset.json allows only {', '.join(map(str, sorted(allowed)))}; "
            f"correct the label."
        )
    return AnnotatedLabel(_compact(label if label.ndim == 3 else label[None], what), tuple(notes))


def write_label(
    case: str, voxels: np.ndarray, target: Path, image: Path, dataset_json: dict, reader: type[BaseReaderWriter]
) -> list[str]:
    """Write a label with the geometry of its image, whole or not at all, once nnU-Net's own reader is content with it.

    Args:
        case: identifier, for messages.
        voxels: (Z, Y, X) uint8 or uint16, as from :func:`read_label`.
        target: ``labelsTr/CASE<ending>``; replaced in one step.
        image: the case's first channel.
        dataset_json: for the labels.
        reader: nnU-Net's reader of the data set.

    Returns:
        Warnings of the check (no foreground).

    Raises:
        BadCase: the file would be refused when it is preprocessed; nothing is written.
    """
    ending = dataset_json["file_ending"]
    # in a folder of its own: image libraries go by the ending, and nnU-Net takes every file in labelsTr for a label
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / f"{case}{ending}"
        try:
            if carries_geometry(ending):
                write_map_like(voxels, image, temporary, ending)
            else:
                with contextlib.redirect_stdout(io.StringIO()):
                    _, properties = reader().read_images([str(image)])
                    reader().write_seg(voxels, str(temporary), properties)
        except (ValueError, RuntimeError) as error:
            raise BadCase(
                f"Case {case}: the image {image} cannot be read ({_last_line(error)}); replace it."
            ) from error
        try:
            warnings = check_label(
                case, temporary, [image], allowed_label_values(dataset_json), reader, ignore=ignore_value(dataset_json)
            )
        except BadCase as error:
            raise BadCase(str(error).replace(str(temporary), str(target))) from error
        copy_file(temporary, target)
    return [warning.replace(str(temporary), str(target)) for warning in warnings]


def keep_copy(file: Path, folder: Path, case: str, ending: str) -> Path:
    """Keep a file that is about to be replaced, once, under a name that tells when it was made and what is in it."""
    digest = blake2b(file.read_bytes(), digest_size=4).hexdigest()
    made = datetime.fromtimestamp(file.stat().st_mtime)
    for earlier in folder.glob(f"*__{digest}{ending}"):
        if earlier.name.startswith(f"{case}__"):
            return earlier
    kept = folder / f"{case}__{made:%Y%m%d_%H%M%S}__{digest}{ending}"
    copy_file(file, kept)
    return kept


def _integers(voxels: np.ndarray, what: str) -> np.ndarray:
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
    """With the reader of the data set, which has to find it on the image's grid as it is."""
    check_label(case, file, [image], allowed_label_values(dataset_json), reader)
    with contextlib.redirect_stdout(io.StringIO()):
        label, properties = reader().read_seg(str(file))
    what = f"Case {case}: the label {file}"
    return AnnotatedLabel(_compact(_integers(to_file_order(label[0], properties), what), what))


def _last_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1][:160].strip()


def file_state(file: Path) -> list[int]:
    """Size and modification time, by which a file that has not been touched is known."""
    state = os.stat(file)
    return [state.st_size, state.st_mtime_ns]
