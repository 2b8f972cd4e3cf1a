"""Segments of a 3D Slicer segmentation (``.seg.nrrd``) or of MITK, and which label of the data set each one means: by name, then
by value.

The voxels of such a file form one or more layers; a segment is the set of voxels of its layer that have its label value. Segments of
different layers may overlap. The header fields ``SegmentN_Name``, ``_LabelValue`` and ``_Layer`` are from 3D Slicer's
documentation ("Segmentation file format"). Older files, from before layers, have one layer per segment and no label values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_active.data.dataset_json import names_of_values
from nnunet_active.data.mitk_labels import mitk_labels, saved_by_mitk
from nnunet_active.util.errors import BadCase

_FIELD = re.compile(r"Segment(\d+)_(\w+)")


@dataclass(frozen=True)
class Segment:
    """One segment: its name, its value in its layer, the layer, and whether the value may identify the label."""

    name: str
    value: int
    layer: int
    by_value: bool = True


def segments_of(header: Mapping[str, str], layers: int = 1) -> list[Segment]:
    """The segments that a NRRD header declares, in order; none for a plain label map.

    If it declares some for 3D Slicer and some for MITK, those of the program that saved the file count.

    Raises:
        ValueError: a label value or a layer is not a number, or MITK's labels cannot be read.
    """
    if not saved_by_mitk(header) and (found := _slicer_segments(header, layers)):
        return found
    return [Segment(*one) for one in mitk_labels(header)] or _slicer_segments(header, layers)


def stack_segments(
    parts: Mapping[int, Sequence[tuple[int, np.ndarray]]], shape: tuple[int, int, int]
) -> tuple[np.ndarray, dict[int, int]]:
    """Put segments into layers so that no two segments of one layer overlap.

    Args:
        parts: number of a segment -> its slices: index, and (rows, columns) with voxels above 0.
        shape: (slices, rows, columns).

    Returns:
        (layers, slices, rows, columns) uint16, each voxel with the number of its segment; and the layer of each segment, the first
        with room for it.
    """
    layers: list[np.ndarray] = []
    layer_of: dict[int, int] = {}
    for number, planes in parts.items():
        free = (n for n, layer in enumerate(layers) if not any(layer[z][plane > 0].any() for z, plane in planes))
        layer_of[number] = next(free, len(layers))
        if layer_of[number] == len(layers):
            layers.append(np.zeros(shape, dtype=np.uint16))
        for z, plane in planes:
            layers[layer_of[number]][z][plane > 0] = number
    return np.stack(layers), layer_of


def _slicer_segments(header: Mapping[str, str], layers: int) -> list[Segment]:
    fields: dict[int, dict[str, str]] = {}
    for key, text in header.items():
        if match := _FIELD.fullmatch(key):
            fields.setdefault(int(match[1]), {})[match[2]] = text.strip()
    found = []
    for number, entry in sorted(fields.items()):
        if "Name" in entry or "ID" in entry:
            name = entry.get("Name") or entry["ID"]
            old = "LabelValue" not in entry
            value, layer = (1, number if layers > 1 else 0)
            if not old:
                value, layer = int(entry["LabelValue"]), int(entry.get("Layer") or 0)
            found.append(Segment(name, value, layer))
    return found


def map_segments(
    layers: np.ndarray, segments: list[Segment], dataset_json: dict, what: str
) -> tuple[np.ndarray, list[str]]:
    """One label map from the layers of a segmentation.

    Args:
        layers: (layers, Z, Y, X) integers.
        segments: what the header says.
        dataset_json: its ``labels`` (and ``regions_class_order``).
        what: the file's name for messages.

    Returns:
        (Z, Y, X) uint16 with the data set's values, and sentences about segments not found by name.

    Raises:
        BadCase: a segment with voxels is no label of the data set; two segments claim the same voxels for different labels (allowed
            in a data set with regions); a segment's layer does not exist.
    """
    values = names_of_values(dataset_json)
    named = _by_name(layers, segments, values)
    by_value = {value: name for name, value in values.items()}
    notes: list[str] = []
    guessed: set[str] = set()
    painting: list[tuple[int, str, np.ndarray]] = []
    rank = {name: index for index, name in enumerate(values)}
    for segment in [*segments, *_unnamed(layers, segments)]:
        if not 0 <= segment.layer < len(layers):
            raise BadCase(
                f"{what} has no layer {segment.layer}, in which its segment '{segment.name}' lies; save it again."
            )
        voxels = layers[segment.layer] == segment.value
        if not voxels.any():
            continue
        name = named.get(segment)
        if name is None:
            name = by_value.get(segment.value) if segment.by_value else None
            if name is None or name in named.values() or name in guessed:
                value = f" (label value {segment.value})" if segment.by_value else ""
                raise BadCase(
                    f"{what} has a segment '{segment.name}'{value} that is none of the data set's labels "
                    f"{', '.join(f'{n} ({v})' for n, v in values.items())}; rename it to the label that it is, or remove it."
                )
            guessed.add(name)
            notes.append(f"segment '{segment.name}' was taken for {name} by its label value {segment.value}")
        painting.append((rank[name], name, voxels))
    label = np.zeros(layers.shape[1:], dtype=np.uint16)
    nested = any(isinstance(value, (list, tuple)) for value in dataset_json["labels"].values())
    by: dict[int, str] = {}
    for _, name, voxels in sorted(painting, key=lambda entry: entry[0]):
        value = values[name]
        claimed = np.unique(label[voxels])
        rivals = [by[int(v)] for v in claimed if v not in (0, value)]
        if rivals and not nested:
            both = int(np.count_nonzero(voxels & (label > 0) & (label != value)))
            raise BadCase(
                f"{what}: the segments for {rivals[0]} and {name} overlap in {both} voxels; let each voxel belong to one of them "
                f"(in 3D Slicer's Segment Editor: Masking, Modify other segments: Overwrite all)."
            )
        label[voxels] = value
        by[value] = name
    return label, notes


def _by_name(layers: np.ndarray, segments: list[Segment], values: Mapping[str, int]) -> dict[Segment, str]:
    """The label that each segment's name means: an exact match, or a match up to spelling if it is unambiguous.

    ``node+`` and ``node-``, or ``GTV 1`` and ``GTV-1``, may be two labels of one data set. If several labels, or several
    drawn segments, could be meant, a match up to spelling does not count.
    """
    named = {segment: segment.name for segment in segments if segment.name in values}
    alike: dict[str, list[str]] = {}
    for name in values:
        alike.setdefault(_plain(name), []).append(name)
    claims: dict[str, list[Segment]] = {}
    for segment in segments:
        if segment not in named and len(alike.get(_plain(segment.name), [])) == 1:
            claims.setdefault(alike[_plain(segment.name)][0], []).append(segment)
    for name, claiming in claims.items():
        drawn = [one for one in claiming if one.layer < len(layers) and (layers[one.layer] == one.value).any()]
        one_spelling = len({one.name for one in drawn}) <= 1
        if name not in named.values() and one_spelling:
            named |= dict.fromkeys(claiming, name)
    return named


def _unnamed(layers: np.ndarray, segments: list[Segment]) -> list[Segment]:
    """Make a segment of its own for each voxel value that no segment accounts for, so that nothing is silently dropped."""
    known = {(segment.layer, segment.value) for segment in segments}
    return [
        Segment(f"value {value}", int(value), layer)
        for layer, voxels in enumerate(layers)
        for value in np.unique(voxels)
        if value != 0 and (layer, int(value)) not in known
    ]


def _plain(name: str) -> str:
    """The name without capitals, and without spaces, dashes, dots and underscores between letters; other signs are significant."""
    return re.sub(r"(?<=[^\W_])[\s_.-]+(?=[^\W_])", "", name.strip().casefold())
