from __future__ import annotations

import re

import numpy as np

from nnunet_active.annotation.itksnap import Layer, label_descriptions, workspace
from nnunet_active.annotation.label_colours import colour_of_name, labels_of
from nnunet_active.annotation.seg_nrrd import write_seg_nrrd
from nnunet_active.data.geometry import Geometry


def named(dataset_json: dict) -> dict[int, str]:
    return {label.value: label.name for label in labels_of(dataset_json)}


def test_plain_labels_keep_their_names_and_values():
    assert named({"labels": {"background": 0, "b": 2, "a": 1, "ignore": 3}}) == {1: "a", 2: "b", 3: "ignore"}


def test_regions_go_by_the_value_that_nnunet_paints():
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
    found = named({"labels": labels, "regions_class_order": [1, 2, 3]})
    assert found == {1: "whole", 2: "core", 3: "enhancing"}


def test_a_value_without_a_name_of_its_own_is_still_listed():
    found = named({"labels": {"background": 0, "whole": [1, 2, 4], "core": [4]}, "regions_class_order": [1, 4]})
    assert found == {1: "whole", 2: "label 2", 4: "core"}


def test_a_hundred_labels_have_a_hundred_colours():
    labels = {"background": 0} | {f"organ {n}": n for n in range(1, 118)}
    colours = {label.colour for label in labels_of({"labels": labels})}
    assert len(colours) == 117 and all(0 <= part <= 255 for colour in colours for part in colour)


def test_a_label_has_one_colour_in_every_program(tmp_path):
    dataset_json = {"labels": {"background": 0, "LV": 3, "MYO": 2, "RV": 1}}
    labels = labels_of(dataset_json)
    by_name = {label.name: label.colour for label in labels}
    space = Geometry.of_shape((2, 3, 4))
    write_seg_nrrd(np.zeros((2, 3, 4), np.uint8), labels, space, tmp_path / "a.seg.nrrd")
    header = (tmp_path / "a.seg.nrrd").read_bytes().split(b"\n\n")[0].decode()
    in_slicer = {
        re.search(rf"Segment{n}_Name:=(.*)", header)[1]: tuple(
            round(255 * float(part)) for part in re.search(rf"Segment{n}_Color:=(.*)", header)[1].split()
        )
        for n in range(3)
    }
    described = re.findall(r"^ +[1-9]\d* +(\d+) +(\d+) +(\d+) .*\"(.*)\"$", label_descriptions(labels), re.MULTILINE)
    in_itksnap = {name: tuple(map(int, colour)) for *colour, name in described}
    text = workspace(tmp_path, [Layer(tmp_path / "x", "x")], tmp_path / "y", labels, space.size)
    for name, colour in by_name.items():
        assert in_slicer[name] == in_itksnap[name] == colour
        assert re.search(rf'value="{" ".join(map(str, colour))}" />(?:(?!<folder).)*value="{name}"', text, re.DOTALL)
        assert colour_of_name(dataset_json)[name] == "#{:02x}{:02x}{:02x}".format(*colour)
