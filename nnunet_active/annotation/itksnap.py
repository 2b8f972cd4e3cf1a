"""Files for ITK-SNAP: a label description file, and per case a workspace with all channels, the label map and the uncertainty map.

A workspace is an XML registry of folders and entries, as ITK-SNAP itself writes it. If a workspace was moved, ITK-SNAP looks for its
images relative to the workspace, so a hand-off folder can be moved as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

from nnunet_active.annotation.label_colours import Label

_LABEL_HEADER = """\
################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
################################################
"""
_DOCTYPE = """\
<?xml version="1.0" encoding="UTF-8" ?>
<!--ITK-SNAP (itksnap.org) Project File-->
<!DOCTYPE registry [
<!ELEMENT registry (entry*,folder*)>
<!ELEMENT folder (entry*,folder*)>
<!ELEMENT entry EMPTY>
<!ATTLIST folder key CDATA #REQUIRED>
<!ATTLIST entry key CDATA #REQUIRED>
<!ATTLIST entry value CDATA #REQUIRED>
]>
"""
_VERSION = "20151215"  # of the workspace format; read by ITK-SNAP 3.4 and later
_UNCERTAINTY_ALPHA = 0.35


@dataclass(frozen=True)
class Layer:
    """One image of a workspace: its file, its displayed name, and whether it is drawn over the others (``sticky``).

    ``colours`` names an ITK-SNAP colour map that spans the smallest to the largest value; None for grey with ITK-SNAP's own contrast.
    """

    file: Path
    name: str
    colours: str | None = None
    sticky: bool = False


def label_descriptions(labels: Sequence[Label]) -> str:
    """Text of a label description file: index, colour, opacity, visibility in slices and in 3-D, name."""
    lines = ['    0     0    0    0        0  0  0    "Clear Label"']
    for label in labels:
        red, green, blue = label.colour
        name = label.name.replace('"', "'").replace("\n", " ")
        shown = int(label.visible)
        lines.append(f'{label.value:5d} {red:5d} {green:4d} {blue:4d}        {shown}  {shown}  {shown}    "{name}"')
    return _LABEL_HEADER + "\n".join(lines) + "\n"


def workspace(
    folder: Path, layers: Sequence[Layer], segmentation: Path, labels: Sequence[Label], size: Sequence[int]
) -> str:
    """Text of a workspace file.

    Args:
        folder: folder of the workspace.
        layers: the first one becomes the main image.
        segmentation: the label map to edit.
        labels: names and colours of its labels.
        size: voxels along (x, y, z); ITK-SNAP uses the label names only if the size is right.
    """
    found: dict[str, dict] = {}
    for index, layer in enumerate(layers):
        entry: dict = {
            "AbsolutePath": str(layer.file),
            "Role": "MainRole" if index == 0 else "OverlayRole",
            "Tags": "",
            "LayerMetaData": {
                "Alpha": "255" if index == 0 else str(_UNCERTAINTY_ALPHA if layer.sticky else 1),
                "CustomNickName": layer.name,
                "Sticky": str(int(layer.sticky)),
            },
        }
        if layer.colours is not None:  # otherwise ITK-SNAP sets the contrast itself
            entry["LayerMetaData"]["DisplayMapping"] = {
                "ColorMap": {"Preset": layer.colours},
                "Curve": _straight_curve(),
            }
        if index == 0:
            entry["ProjectMetaData"] = {
                "Files": {"Grey": {"Dimensions": " ".join(map(str, size))}},
                "IRIS": {"LabelTable": _label_table(labels)},
            }
        found[f"Layer[{index:03d}]"] = entry
    found[f"Layer[{len(layers):03d}]"] = {
        "AbsolutePath": str(segmentation),
        "Role": "SegmentationRole",
        "Tags": "",
        "LayerMetaData": {"Alpha": "255", "CustomNickName": "", "Sticky": "1"},
    }
    registry = {"SaveLocation": str(folder), "Version": _VERSION, "Layers": found}
    return _DOCTYPE + "<registry>\n" + _lines(registry, "  ") + "</registry>\n"


def _label_table(labels: Sequence[Label]) -> dict:
    table: dict = {"NumberOfElements": str(len(labels))}
    for index, label in enumerate(labels):
        table[f"Element[{index}]"] = {
            "Alpha": str(255 * label.visible),
            "Color": " ".join(map(str, label.colour)),
            "Flags": "1 1" if label.visible else "0 0",
            "Index": str(label.value),
            "Label": label.name,
        }
    return table


def _straight_curve() -> dict:
    points = {f"ControlPoint[{n}]": {"tValue": str(n / 2), "xValue": str(n / 2)} for n in range(3)}
    return {"NumberOfControlPoints": "3", **points}


def _lines(content: Mapping, indent: str) -> str:
    """Entries first, then folders, as the document type requires."""
    text = ""
    for key, value in content.items():
        if not isinstance(value, Mapping):
            text += f"{indent}<entry key={quoteattr(key)} value={quoteattr(value)} />\n"
    for key, value in content.items():
        if isinstance(value, Mapping):
            text += f"{indent}<folder key={quoteattr(key)} >\n{_lines(value, indent + '  ')}{indent}</folder>\n"
    return text
