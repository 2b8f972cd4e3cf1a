"""Checks of image and label files before nnU-Net uses them: one clear sentence instead of a crash much later.

Files are only read; a refused file stays where it is.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.reader_writer_registry import recursive_find_reader_writer_by_name

from nnunet_active.data.geometry import GRID_TOLERANCE, Geometry
from nnunet_active.data.gipl import ENDINGS as GIPL_ENDINGS
from nnunet_active.data.gipl import check_gipl_is_whole
from nnunet_active.data.image_headers import OBLIQUE_AXES, header_fault, volumes_in
from nnunet_active.data.itk_files import unpacked_twin, without_twin
from nnunet_active.data.unpacked import is_packed, open_unpacked
from nnunet_active.util.errors import BadCase, MissingInput


@dataclass(frozen=True)
class CheckedImage:
    """What ``check_image`` found: the geometry for the check of the label, and sentences worth showing."""

    geometry: Geometry
    warnings: tuple[str, ...] = ()


def image_reader(plans: dict) -> type[BaseReaderWriter]:
    """The reader class that the plans name.

    Raises:
        MissingInput: this nnU-Net has no such reader.
    """
    try:
        return recursive_find_reader_writer_by_name(plans["image_reader_writer"])
    except RuntimeError as error:
        raise MissingInput(
            f"The plans name the image reader {plans.get('image_reader_writer')}, which this nnU-Net does not have."
        ) from error


def check_image(
    case: str, files: Sequence[Path], reader: type[BaseReaderWriter], channels: int | None = None
) -> CheckedImage:
    """Read every channel of a case and make sure that nnU-Net can use it.

    Args:
        case: identifier, for messages.
        files: one file per channel (or one file with all channels), in order.
        reader: nnU-Net's reader class, from ``image_reader``.
        channels: the number of channels there must be in all; not checked if None.

    Returns:
        The geometry, with warnings for a channel that is constant while others are not and for channels whose origins
        or directions differ (nnU-Net accepts both).

    Raises:
        BadCase: a file cannot be read, has NaN or infinite voxels or no voxels; all channels are constant; shapes or
            spacings differ between the channels; their number is wrong.
    """
    geometry, first, constant, found, warnings = None, None, [], 0, []
    for file in files:
        image, current = _read(case, file, "image", reader)
        if image.size == 0:
            raise BadCase(f"Case {case}: the image {file} has no voxels (shape {image.shape}); replace it.")
        if geometry is None:
            geometry, first = current, file
        _compare_channels(case, first, geometry, file, current)
        if not geometry.fits(current):  # nnU-Net still treats it as the same grid
            warnings.append(
                f"Case {case}: {file} has another origin or direction than {first}: it lies {geometry.difference(current)}."
            )
        constant += [file for channel in image if channel.min() == channel.max()]
        found += len(image)
    if geometry is None:
        raise BadCase(f"Case {case} has no image file.")
    if channels is not None and found != channels:
        several = [(file, count) for file in files if (count := volumes_in(file)) > 1]
        advice = "".join(
            f" {file} holds {count} volumes; save those that are wanted one by one, as channels (CASE_0000, CASE_0001 ...) or as cases "
            f"of their own."
            for file, count in several
        )
        if not several and len(files) == 1:  # pictures: greyscale, or with an opaque alpha channel of their own
            advice = " Save the picture with as many colours as dataset.json has channels (no transparency), or each channel as a file "
            advice += "of its own (CASE_0000, CASE_0001 ...)."
        raise BadCase(f"Case {case}: its files hold {found} channel(s), but {channels} are expected.{advice}")
    if len(constant) == found:
        raise BadCase(
            f"Case {case}: the image is empty, every voxel of {_names(files)} has the same value; replace it."
        )
    warnings += [f"Case {case}: every voxel of the channel {file} has the same value." for file in constant]
    return CheckedImage(geometry, tuple(warnings))


def check_label(
    case: str,
    label: Path,
    images: Sequence[Path],
    allowed: Iterable[int],
    reader: type[BaseReaderWriter],
    geometry: Geometry | None = None,
    ignore: int | None = None,
) -> list[str]:
    """Make sure that a label file fits its image and ``dataset.json``.

    Args:
        case: identifier, for messages.
        label: the label file.
        images: the case's image files; the first is read for its geometry unless that is given.
        allowed: voxel values allowed, from ``allowed_label_values``.
        reader: nnU-Net's reader class.
        geometry: of the image, if ``check_image`` has found it already.
        ignore: value of the ignore label, which is not foreground.

    Returns:
        Warnings; one if no voxel is foreground.

    Raises:
        BadCase: the label (or the image) cannot be read, lies on another voxel grid (shape, spacing, origin,
            direction), or has values that are not allowed.
    """
    found, grid = _read(case, label, "label", reader)
    if geometry is None:
        geometry = _read(case, images[0], "image", reader)[1]
    if len(found) != 1:
        raise BadCase(
            f"Case {case}: the label {label} has {len(found)} channels instead of one; save it as a grey "
            f"image whose numbers are the label values."
        )
    _compare_grids(case, label, grid, images[0], geometry)
    return check_label_values(f"Case {case}: the label {label}", np.unique(found), allowed, ignore)


def check_label_values(what: str, values: np.ndarray, allowed: Iterable[int], ignore: int | None = None) -> list[str]:
    """Make sure that a label holds only allowed values.

    Args:
        what: the label's name for messages.
        values: the values that occur.
        allowed: see :func:`check_label`.
        ignore: value of the ignore label.

    Returns:
        A warning if none of them is foreground.

    Raises:
        BadCase: other values, or nothing but the ignore value.
    """
    allowed = sorted(allowed)
    unknown = [value for value in values if value not in allowed]  # 1.5 never matches an integer
    if unknown:
        shown = ", ".join(f"{value:g}" for value in unknown[:5]) + (" ..." if len(unknown) > 5 else "")
        raise BadCase(
            f"{what} has the value(s) {shown}, but dataset.json allows only {', '.join(map(str, allowed))}; correct the label."
        )
    if ignore is not None and len(values) and (values == ignore).all():
        raise BadCase(
            f"{what} has the ignore value in every voxel, so there is nothing to learn from it; mark what is background as background, "
            f"or take the label away."
        )
    if not ((values > 0) & (values != ignore)).any():
        return [f"{what} marks no foreground; check that this is meant."]
    return []


def _read(case: str, file: Path, kind: str, reader: type[BaseReaderWriter]) -> tuple[np.ndarray, Geometry]:
    """Read one file as nnU-Net does, and make sure that it is whole and all voxels are finite."""
    if kind == "image" and (fault := header_fault(Path(file))):
        raise BadCase(f"Case {case}: the image {file} {fault}.")
    try:
        not_finite = count_not_finite(file)
        with without_twin(Path(file)) as alone:
            array, properties = _content(alone, kind, reader)
    except Exception as error:  # every image library has its own exceptions
        detail = (str(error).strip() or type(error).__name__).splitlines()[-1][:160].strip()
        there = "cannot be read" if Path(file).is_file() else "was not found"
        advice = OBLIQUE_AXES if "orthonormal" in str(error) else "replace it"
        raise BadCase(f"Case {case}: the {kind} {file} {there} ({detail}); {advice}.") from error
    not_finite = not_finite or int(np.count_nonzero(~np.isfinite(array)))
    if not_finite:
        raise BadCase(f"Case {case}: the {kind} {file} has {not_finite} NaN or infinite voxels; correct or replace it.")
    twin = unpacked_twin(Path(file))
    if twin is not None and not _has_same_voxels(array, file, kind, reader):
        raise BadCase(
            f"Case {case}: nnU-Net would take the voxels of {twin.name} for those of the {kind} {file}, since it lies beside it, "
            f"and the two differ; move one of them to another folder."
        )
    return array, _geometry(array.shape[1:], properties)


def _content(file: Path, kind: str, reader: type[BaseReaderWriter]) -> tuple[np.ndarray, dict]:
    with contextlib.redirect_stdout(io.StringIO()):  # readers print what becomes a sentence elsewhere
        return reader().read_seg(str(file)) if kind == "label" else reader().read_images([str(file)])


def _has_same_voxels(array: np.ndarray, file: Path, kind: str, reader: type[BaseReaderWriter]) -> bool:
    """Whether the reader gets the same from a file where it lies."""
    try:
        return np.array_equal(array, _content(file, kind, reader)[0])
    except Exception:  # of another size than the header says
        return False


def count_not_finite(file: Path) -> int:
    """NaN and infinite voxels of a NIfTI file, 0 for others; raises if a NIfTI or GIPL file ends too early.

    ITK, nnU-Net's default reader for NIfTI, hides both without an error: it fills a truncated file with zeros and turns NaN
    into zero. nibabel does not. If nibabel rejects a file for another reason, nnU-Net's reader decides.
    """
    name = str(file).lower()
    if name.endswith(GIPL_ENDINGS):
        check_gipl_is_whole(file)
    if not name.endswith((".nii", ".nii.gz")):
        return 0
    packed = is_packed(file)
    try:
        if packed == name.endswith(".gz"):
            voxels = nibabel.load(file).dataobj.get_unscaled()
        else:  # misnamed: ITK goes by the content, nibabel by the name
            with open_unpacked(file) as content:
                voxels = nibabel.Nifti1Image.from_stream(content).dataobj.get_unscaled()
    except (HeaderDataError, ImageFileError, AttributeError):
        if packed:
            with open_unpacked(file) as content:
                while content.read(1 << 24):  # raises if the stream has no end
                    pass
        return 0
    return int(np.count_nonzero(~np.isfinite(voxels))) if voxels.dtype.kind == "f" else 0


def _geometry(shape: tuple[int, ...], properties: dict) -> Geometry:
    """The geometry that the reader reported for a file."""
    if "nibabel_stuff" in properties:
        stuff = properties["nibabel_stuff"]
        return Geometry.of_ras(shape[::-1], stuff.get("reoriented_affine", stuff["original_affine"]))
    stuff = properties.get("sitk_stuff")
    if stuff is None:
        return Geometry.of_shape(shape, properties["spacing"])
    return Geometry.of_facts(shape[::-1], stuff["spacing"], stuff["origin"], stuff["direction"])


def _compare_channels(case: str, first: Path, expected: Geometry, file: Path, found: Geometry) -> None:
    """nnU-Net requires the same shape and, within rounding, the same spacing."""
    differ = None
    if expected.shape != found.shape:
        differ = f"shape, {first} has {expected.shape} but {file} has {found.shape} (Z, Y, X)"
    elif not np.allclose(expected.spacing, found.spacing):  # its own tolerance
        most = float(np.abs(np.subtract(expected.spacing, found.spacing)).max())
        differ = f"spacing by up to {most:.3g} mm, {first} has {expected.spacing[::-1]} but {file} has {found.spacing[::-1]} (Z, Y, X)"
    if differ:
        raise BadCase(f"Case {case}: the channels differ in {differ}; resample them to one grid.")


def _compare_grids(case: str, label: Path, found: Geometry, image: Path, expected: Geometry) -> None:
    differences = []
    if found.shape != expected.shape:
        differences.append(f"shape {found.shape} instead of {expected.shape}")
    # if neither format stores the geometry, the label lies where its image lies
    if (found.known or expected.known) and not np.allclose(found.spacing, expected.spacing, rtol=1e-3):
        differences.append(f"spacing {found.spacing[::-1]} instead of {expected.spacing[::-1]}")
    if not differences and not expected.fits(found):
        origin, wanted = np.round(found.origin, 3), np.round(expected.origin, 3)
        if np.linalg.norm(origin - wanted) > GRID_TOLERANCE * min(expected.spacing):
            differences.append(f"origin {tuple(origin.tolist())} instead of {tuple(wanted.tolist())}")
        else:
            differences.append("another direction of the axes")
    if differences:
        raise BadCase(
            f"Case {case}: the label {label} does not lie on the grid of its image {image}: {', '.join(differences)}; "
            f"resample the label or save it again with the image's geometry."
        )


def _names(files: Sequence[Path]) -> str:
    return ", ".join(str(file) for file in files)
