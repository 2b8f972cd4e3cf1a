from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from nnunet_active.annotation.itksnap import Layer, label_descriptions, workspace
from nnunet_active.annotation.label_colours import Label

LABELS = [Label(1, 'the "rim"', (230, 75, 53)), Label(300, "core & more", (0, 158, 115))]
LINE = re.compile(r'^\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+([\d.]+)\s+([01])\s+([01])\s+"(.*)"$')


def test_a_label_description_file_has_eight_fields_per_label():
    lines = [line for line in label_descriptions(LABELS).splitlines() if not line.startswith("#")]
    found = [LINE.match(line).groups() for line in lines]
    assert found[0] == ("0", "0", "0", "0", "0", "0", "0", "Clear Label")
    assert found[1] == ("1", "230", "75", "53", "1", "1", "1", "the 'rim'")
    assert found[2] == ("300", "0", "158", "115", "1", "1", "1", "core & more")


def test_a_hidden_label_is_transparent_and_invisible_as_itksnap_writes_its_clear_label():
    hidden = [LABELS[0], Label(2, "ignore", (0, 158, 115), visible=False)]
    line = label_descriptions(hidden).splitlines()[-1]
    assert LINE.match(line).groups() == ("2", "0", "158", "115", "0", "0", "0", "ignore")
    text = workspace(Path("/c"), [Layer(Path("/c/a.nii.gz"), "T1")], Path("/c/l.nii.gz"), hidden, (1, 1, 1))
    table = read(text)["Layers"]["Layer[000]"]["ProjectMetaData"]["IRIS"]["LabelTable"]
    shown = [(table[f"Element[{n}]"]["Alpha"], table[f"Element[{n}]"]["Flags"]) for n in range(2)]
    assert shown == [("255", "1 1"), ("0", "0 0")]


def read(text: str) -> dict:
    """As ITK-SNAP's registry: nested folders of entries."""

    def content(node) -> dict:
        found = {child.get("key"): content(child) for child in node if child.tag == "folder"}
        return found | {child.get("key"): child.get("value") for child in node if child.tag == "entry"}

    return content(ElementTree.fromstring(text))


def test_a_workspace_has_a_main_image_overlays_and_a_segmentation():
    folder = Path("/scans/hand <off> & more/c")
    layers = [Layer(folder / "a.nii.gz", "T1"), Layer(folder / "u.nii.gz", "uncertainty", "Hot", sticky=True)]
    registry = read(workspace(folder, layers, folder / "l.nii.gz", LABELS, (10, 12, 9)))
    assert registry["SaveLocation"] == str(folder)
    found = registry["Layers"]
    assert list(found) == ["Layer[000]", "Layer[001]", "Layer[002]"]
    assert [layer["Role"] for layer in found.values()] == ["MainRole", "OverlayRole", "SegmentationRole"]
    assert [Path(layer["AbsolutePath"]).name for layer in found.values()] == ["a.nii.gz", "u.nii.gz", "l.nii.gz"]
    shown = found["Layer[001]"]["LayerMetaData"]["DisplayMapping"]
    assert shown["ColorMap"]["Preset"] == "Hot" and shown["Curve"]["NumberOfControlPoints"] == "3"
    assert "DisplayMapping" not in found["Layer[000]"]["LayerMetaData"]
    project = found["Layer[000]"]["ProjectMetaData"]
    assert project["Files"]["Grey"]["Dimensions"] == "10 12 9"
    table = project["IRIS"]["LabelTable"]
    assert table["NumberOfElements"] == "2"
    assert table["Element[1]"] == {
        **{"Alpha": "255", "Color": "0 158 115", "Flags": "1 1", "Index": "300", "Label": "core & more"}
    }
