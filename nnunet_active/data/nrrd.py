"""NRRD files whose header holds exactly another NRRD file's geometry, to the last digit of its text.

NRRD stores ``spacing * direction``; a program that splits it into spacing and direction and multiplies again gets slightly other
numbers. So the lines of the original are copied. The format: https://teem.sourceforge.net/nrrd/format.html
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path

import numpy as np

_GEOMETRY = (
    *("dimension", "space", "space dimension", "space units", "sizes", "spacings", "thicknesses", "space directions"),
    *(
        "space origin",
        "kinds",
        "axis mins",
        "axismins",
        "axis maxs",
        "axismaxs",
        "centers",
        "centerings",
        "labels",
        "units",
    ),
)
_KINDS_IN_SPACE = ("domain", "space", "time", "none", "???")
"""Kinds of axes that ITK takes for axes of the image; all others hold the values of a voxel."""
_TYPES = {"uint8": "uint8", "uint16": "uint16", "float32": "float"}


def read_nrrd_geometry(file: Path) -> dict[str, str]:
    """Field -> text of the lines that describe size and space, in the order of the file.

    Raises:
        ValueError: the file is no NRRD file.
    """
    fields: dict[str, str] = {}
    with Path(file).open("rb") as content:
        if not content.readline().startswith(b"NRRD000"):
            raise ValueError("it is no NRRD file")
        for line in iter(content.readline, b""):
            text = line.decode("latin-1").rstrip("\r\n")
            if not text:
                break
            name, colon, value = text.partition(": ")
            if colon and not text.startswith("#") and name.strip().lower() in _GEOMETRY:
                fields[name.strip().lower()] = value.strip()
    return fields


def nrrd_shape(geometry: Mapping[str, str]) -> tuple[int, ...]:
    """Voxels along x, y, z, from ``sizes``, without a first axis that lists one value a voxel.

    Raises:
        ValueError: there are none, or they are not numbers.
    """
    shape = tuple(int(n) for n in geometry.get("sizes", "").split())
    if not shape:
        raise ValueError("its header has no sizes")
    kinds = geometry.get("kinds", "").lower().split()
    lists = len(shape) > 3 and kinds and kinds[0] not in _KINDS_IN_SPACE
    return shape[1:] if lists and shape[0] == 1 else shape


def pad_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape as 3-D: a 2-D image is one slice, and further axes of one voxel are dropped."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return (*shape, *(1,) * (3 - len(shape)))


def write_nrrd(
    array: np.ndarray,
    geometry: Mapping[str, str],
    target: Path,
    metadata: Mapping[str, str] | None = None,
    level: int = 6,
) -> None:
    """Write voxels under the given geometry lines, gzip-compressed.

    Args:
        array: (Z, Y, X), uint8, uint16 or float32, in the order in which the file stores them.
        geometry: field -> text, from :func:`read_nrrd_geometry`.
        target: where to.
        metadata: key -> value lines, e.g. the segments of a 3D Slicer segmentation.
        level: of the compression.

    Raises:
        ValueError: the array differs in size.
    """
    shape = nrrd_shape(geometry)
    if pad_shape(shape) != array.shape[::-1]:
        raise ValueError(f"its voxels {shape} (x, y, z) are not those of the prediction {array.shape[::-1]}")
    lines = ["NRRD0005", f"type: {_TYPES[array.dtype.name]}"]
    lines += [f"{name}: {value}" for name, value in geometry.items()]
    if array.dtype.itemsize > 1:
        lines.append("endian: little")
    lines.append("encoding: gzip")
    for key, value in (metadata or {}).items():
        escaped = value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "")
        lines.append(f"{key}:={escaped}")
    voxels = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    with Path(target).open("wb") as file:
        file.write(("\n".join(lines) + "\n\n").encode("utf-8"))
        with gzip.GzipFile(filename="", mode="wb", compresslevel=level, fileobj=file, mtime=0) as compressed:
            compressed.write(voxels.data)
