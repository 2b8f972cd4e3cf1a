"""The labels that a NRRD file declares for MITK: groups of labels, which may overlap, each group one layer of the voxels.

The lines are those of MITK's own multi-label segmentations; other programs ignore them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

_MODALITY, _KIND = "modality", "org.mitk.multilabel.segmentation"
_GROUPS = f"{_KIND}.labelgroups"
_SIGNS = ("MITK_IO_", "org_mitk_")  # MITK adds such lines to every file it saves, and we do not write them


def mitk_header(labels: Iterable[tuple[int, str, tuple[int, int, int]]]) -> dict[str, str]:
    """The lines that make MITK show one group of labels with names and colours, even those without a voxel.

    Args:
        labels: value, name, and (red, green, blue) from 0 to 255.
    """
    entries = [
        {
            "value": value,
            "name": name,
            "color": [part / 255 for part in colour],
            "opacity": 0.5,
            "locked": False,
            "visible": True,
        }
        for value, name, colour in labels
    ]
    return {
        _MODALITY: _KIND,
        f"{_KIND}.version": "1",  # the lowest version, which every MITK with label groups reads
        _GROUPS: json.dumps([{"labels": entries}]),
        f"{_KIND}.unlabeledlabellock": "0",
    }


def mitk_labels(header: Mapping[str, str]) -> list[tuple[str, int, int]]:
    """Name, value and layer of every label that a NRRD header declares for MITK; empty if it declares none.

    Raises:
        ValueError: the groups cannot be read.
    """
    if header.get(_MODALITY) != _KIND or _GROUPS not in header:
        return []
    try:
        return [
            (str(label.get("name") or f"label {label['value']}"), int(label["value"]), layer)
            for layer, group in enumerate(json.loads(header[_GROUPS]))
            for label in group["labels"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"its line {_GROUPS} is damaged") from error


def saved_by_mitk(header: Mapping[str, str]) -> bool:
    """Whether MITK itself saved a NRRD file, not a program that writes for MITK. (MITK keeps 3D Slicer's segment lines unchanged.)"""
    return header.get(_MODALITY) == _KIND and any(key.startswith(_SIGNS) for key in header)
