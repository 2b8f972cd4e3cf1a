"""NIfTI files whose header holds exactly another file's geometry, bit for bit.

ITK and nibabel both compute a matrix from the header and, on writing, a header from the matrix; each step rounds. Here the fields of
the original are copied unchanged: size, spacing, handedness, units, both forms (``qform``, ``sform``) and their codes.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import nibabel
import numpy as np

from nnunet_active.data.nrrd import pad_shape
from nnunet_active.data.unpacked import open_unpacked

_GEOMETRY = (
    *("dim", "pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)

_IMAGES = {nibabel.Nifti1Header: nibabel.Nifti1Image, nibabel.Nifti2Header: nibabel.Nifti2Image}


def read_nifti_header(file: Path) -> nibabel.Nifti1Header:
    """The header, unchecked and uncorrected, in little-endian order; the content decides whether the file is compressed.

    Raises:
        ValueError: the file is no NIfTI file.
    """
    try:
        with open_unpacked(file) as content:
            start = content.read(540)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"its compressed content is damaged ({error})") from error
    length = {int.from_bytes(start[:4], order) for order in ("little", "big")}
    kind = nibabel.Nifti1Header if 348 in length else nibabel.Nifti2Header if 540 in length else None
    if kind is None or len(start) < kind.template_dtype.itemsize:
        raise ValueError("it is no NIfTI file")
    return kind(start[: kind.template_dtype.itemsize], check=False).as_byteswapped("<")


def with_positive_steps(header: nibabel.Nifti1Header) -> nibabel.Nifti1Header:
    """A copy whose spacings are positive, as nibabel makes them when it loads a file, before it computes a matrix."""
    header = header.copy()
    header["pixdim"][1:4] = np.abs(header["pixdim"][1:4])
    return header


def nifti_shape(header: nibabel.Nifti1Header) -> tuple[int, ...]:
    """Voxels along x, y, z ..., from ``dim``."""
    return tuple(int(n) for n in header["dim"][1 : 1 + int(header["dim"][0])])


def write_nifti_like(array: np.ndarray, reference: Path, target: Path, level: int = 6) -> None:
    """Write voxels with the geometry of ``reference``; nothing else of its header is copied (no names, no descriptions).

    Args:
        array: (Z, Y, X) in the order in which the file stores them.
        reference: the NIfTI file to take the geometry from.
        target: ends with ``.nii`` or ``.nii.gz``.
        level: of the compression.

    Raises:
        ValueError: ``reference`` is no NIfTI file, or differs in size.
    """
    original = read_nifti_header(reference)
    shape = nifti_shape(original)
    if pad_shape(shape) != array.shape[::-1]:
        raise ValueError(f"its voxels {shape} (x, y, z) are not those of the prediction {array.shape[::-1]}")
    voxels = array.reshape(shape[::-1]).transpose()  # (Z, Y, X) in C order has x fastest, like NIfTI
    image = _IMAGES[type(original)](voxels, None, dtype=array.dtype)
    for field in _GEOMETRY:  # after nibabel has made its header, because it would correct oddities of the original
        image.header[field] = original[field]
    with Path(target).open("wb") as file:
        if str(target).lower().endswith(".gz"):
            # no name and no time in the file, so the same voxels give the same bytes
            with gzip.GzipFile(filename="", mode="wb", compresslevel=level, fileobj=file, mtime=0) as compressed:
                image.to_stream(compressed)
        else:
            image.to_stream(file)
