from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import matplotlib as mpl
import numpy as np
import pytest

from nnunet_active.report.svg_plots import dice_plot, embedding_plot, volume_plot

POINTS = np.array([[0.0, 0.0], [0.0, 0.001], [1.0, 1.0], [2.0, 0.5]])
HOSTILE = '<script>x</script>&"$x^2$"'


def plots():
    return {
        "map": embedding_plot(POINTS, [1, 2, 0, None], {0: "a", 1: "b"}, [HOSTILE, "y"], "map"),
        "dice": dice_plot(["a", "b"], {HOSTILE: [0.5, None], "core": [None, None]}, {}, "dice"),
        "volume": volume_plot({HOSTILE: [(1.0, 900.0), (0.0, 2.0)], "none": []}, "cm³", {}, "volume"),
    }


@pytest.mark.parametrize("name", ["map", "dice", "volume"])
def test_a_plot_is_whole_svg_that_refers_to_nothing_outside_itself(name):
    text = plots()[name]
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg") and "viewBox" in root.attrib and "width" not in root.attrib
    assert "<script" not in text and "<!DOCTYPE" not in text and "<metadata" not in text
    ids = set(re.findall(r'\bid="([^"]*)"', text))
    assert ids and all(one.startswith(f"{name}-") for one in ids)
    referred = re.findall(r'href="([^"]*)"', text) + re.findall(r"url\(([^)]*)\)", text)
    assert referred and all(one.removeprefix("#") in ids and one.startswith("#") for one in referred)
    outside = re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    assert "http" not in outside


def test_text_stays_text_and_dollar_signs_stay_dollar_signs():
    for text in plots().values():
        found = ["".join(node.itertext()) for node in ElementTree.fromstring(text).iter() if node.tag.endswith("text")]
        assert HOSTILE in found


def test_the_same_data_give_the_same_drawing():
    assert plots() == plots()


def test_names_of_neighbouring_points_do_not_cover_each_other():
    points = np.array([[0.0, 0.0], [0.001, 0.0], [0.0, 0.002], [1.0, 1.0], [-1.0, -1.0]])
    text = embedding_plot(points, [1] * 5, {0: "first_case", 1: "other_case", 2: "third_case"}, ["x", "y"], "map")
    places = [
        (float(node.attrib["x"]), float(node.attrib["y"]))
        for node in ElementTree.fromstring(text).iter()
        if node.tag.endswith("text") and "_case" in "".join(node.itertext())
    ]
    assert len(places) == 3
    for i, (x, y) in enumerate(places):
        for other_x, other_y in places[i + 1 :]:
            assert abs(y - other_y) >= 8 or abs(x - other_x) >= 40


def test_a_very_long_class_name_is_cut_in_the_legend_and_leaves_room_for_the_plot(recwarn):
    text = dice_plot(["a"], {"name " * 40: [0.5]}, {}, "dice")
    assert "name name name" in text and "name " * 10 not in text
    assert not [one for one in recwarn if "constrained_layout" in str(one.message)]


def test_a_font_size_that_somebody_set_for_the_whole_process_does_not_matter():
    plain = dice_plot(["a"], {"tumour": [0.5]}, {}, "dice")
    with mpl.rc_context({"font.size": 30, "legend.fontsize": 40, "axes.labelsize": 50, "xtick.labelsize": 40}):
        assert dice_plot(["a"], {"tumour": [0.5]}, {}, "dice") == plain


def test_a_class_is_drawn_in_its_own_colour_in_every_plot():
    colours = {"tumour": "#123456", "core": "#fedcba"}
    dice = dice_plot(["a"], {"core": [0.5], "tumour": [0.4]}, colours, "dice")
    volume = volume_plot({"core": [(1.0, 2.0)], "tumour": [(2.0, 2.0)]}, "cm³", colours, "volume")
    for text in (dice, volume):
        assert "#123456" in text and "#fedcba" in text
