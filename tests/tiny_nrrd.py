"""Writes segmentations as 3D Slicer does, without any image library, so that reading them is tried against the format itself."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np


def write_segmentation(
    file: Path,
    layers: np.ndarray,
    segments: list[dict],
    spacing=(1.0, 1.0, 1.0),
    origin=(0.0, 0.0, 0.0),
    direction=None,
) -> Path:
    """``layers`` (Z, Y, X) or (layers, Z, Y, X) of uint8; ``segments``: dicts with Name, LabelValue, Layer ..."""
    array = np.asarray(layers, dtype=np.uint8)
    steps = np.reshape(np.eye(3) if direction is None else direction, (3, 3)) * np.asarray(spacing)
    axes = " ".join("(" + ",".join(f"{v:.17g}" for v in column) + ")" for column in steps.T)
    sizes = " ".join(map(str, array.shape[::-1][:3]))
    kinds = "domain domain domain"
    if array.ndim == 4:
        array = np.moveaxis(array, 0, -1)  # the layers are what changes fastest
        sizes, kinds, axes = (
            f"{array.shape[-1]} " + " ".join(map(str, array.shape[2::-1])),
            f"list {kinds}",
            f"none {axes}",
        )
    lines = [
        "NRRD0004",
        "# Complete NRRD file format specification at:",
        "# http://teem.sourceforge.net/nrrd/format.html",
        "type: unsigned char",
        f"dimension: {array.ndim}",
        "space: left-posterior-superior",
        f"sizes: {sizes}",
        f"space directions: {axes}",
        f"kinds: {kinds}",
        "encoding: gzip",
        "space origin: (" + ",".join(f"{v:.17g}" for v in origin) + ")",
    ]
    for number, segment in enumerate(segments):
        entry = {
            "ID": f"Segment_{number + 1}",
            "Color": "0.5 0.5 0.1",
            "Tags": "Segmentation.Status:inprogress|",
            **segment,
        }
        lines += [f"Segment{number}_{key}:={value}" for key, value in entry.items()]
    lines += [
        "Segmentation_ContainedRepresentationNames:=Binary labelmap|",
        "Segmentation_ReferenceImageExtentOffset:=0 0 0",
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(("\n".join(lines) + "\n\n").encode() + gzip.compress(array.tobytes()))
    return file
