from __future__ import annotations

import numpy as np
import pytest

from nnunet_active.data.dataset_json import label_values
from nnunet_active.data.segments import Segment, map_segments, segments_of
from nnunet_active.util.errors import BadCase

DATASET = {"labels": {"background": 0, "Left_Ventricle": 1, "myocardium": 2, "ignore": 3}}
REGIONS = {
    "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3},
    "regions_class_order": [1, 2, 3],
}


def layers(*places: dict) -> np.ndarray:
    """One layer per argument: voxel number -> value, in a row of six."""
    found = np.zeros((len(places), 1, 1, 6), dtype=np.uint16)
    for layer, content in enumerate(places):
        for voxel, value in content.items():
            found[layer, 0, 0, voxel] = value
    return found


def mapped(array, segments, dataset=DATASET):
    label, notes = map_segments(array, segments, dataset, "It")
    return label[0, 0].tolist(), notes


def test_the_header_names_segments_with_value_and_layer():
    header = {
        "Segment1_Name": "myocardium",
        "Segment1_ID": "Segment_2",
        "Segment1_LabelValue": "2",
        "Segment1_Layer": "1",
        "Segment0_ID": "left",
        "Segment0_LabelValue": "7",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
        "Segment0_Color": "1 0 0",
    }
    assert segments_of(header) == [Segment("left", 7, 0), Segment("myocardium", 2, 1)]
    assert segments_of({"NRRD_space": "left-posterior-superior"}) == []


def test_files_from_before_slicer_had_layers_have_one_layer_per_segment():
    header = {"Segment0_Name": "a", "Segment1_Name": "b"}
    assert segments_of(header, 2) == [Segment("a", 1, 0), Segment("b", 1, 1)]
    assert segments_of({"Segment0_Name": "a"}, 1) == [Segment("a", 1, 0)]


def test_the_name_counts_and_not_the_value():
    segments = [Segment("left ventricle", 2, 0), Segment("Myocardium", 1, 0), Segment("ignore", 9, 0)]
    assert mapped(layers({0: 2, 1: 1, 2: 9}), segments) == ([1, 2, 3, 0, 0, 0], [])


def test_a_segment_without_a_known_name_is_taken_by_its_value_and_that_is_said():
    found, notes = mapped(layers({0: 1, 1: 2}), [Segment("Segment_1", 1, 0), Segment("myocardium", 2, 0)])
    assert found == [1, 2, 0, 0, 0, 0]
    assert notes == ["segment 'Segment_1' was taken for Left_Ventricle by its label value 1"]


def test_a_value_that_no_segment_accounts_for_is_not_dropped():
    found, notes = mapped(layers({0: 2, 1: 1}), [Segment("myocardium", 2, 0)])
    assert found == [2, 1, 0, 0, 0, 0] and "value 1" in notes[0]
    with pytest.raises(BadCase, match=r"segment 'value 5' \(label value 5\) that is none of"):
        mapped(layers({0: 2, 1: 5}), [Segment("myocardium", 2, 0)])


@pytest.mark.parametrize(
    "segments",
    [
        [Segment("tumour", 7, 0)],
        [Segment("myocardium", 7, 0), Segment("Segment_2", 2, 1)],  # label 2 is claimed by name already
        [Segment("Segment_1", 7, 0), Segment("Segment_1", 1, 1)],
    ],
)
def test_a_segment_that_cannot_be_told_is_refused(segments):
    with pytest.raises(
        BadCase, match="that is none of the data set's labels background \\(0\\), Left_Ventricle \\(1\\)"
    ):
        mapped(layers({0: 7}, {1: 2, 2: 1}), segments)


def test_two_nameless_segments_with_one_value_are_refused():
    with pytest.raises(BadCase, match="none of the data set's labels"):
        mapped(layers({0: 1}, {1: 1}), [Segment("Segment_1", 1, 0), Segment("Segment_2", 1, 1)])


def test_an_empty_segment_does_not_matter():
    assert mapped(layers({0: 1}), [Segment("Left Ventricle", 1, 0), Segment("scratch", 9, 0)])[0] == [1, 0, 0, 0, 0, 0]


def test_overlapping_segments_are_refused_where_labels_exclude_each_other():
    segments = [Segment("Left_Ventricle", 1, 0), Segment("myocardium", 1, 1)]
    assert mapped(layers({0: 1}, {1: 1}), segments)[0] == [1, 2, 0, 0, 0, 0]
    with pytest.raises(BadCase, match="Left_Ventricle and myocardium overlap in 2 voxels"):
        mapped(layers({0: 1, 1: 1, 2: 1}, {1: 1, 2: 1}), segments)


def test_overlapping_regions_are_painted_as_nnunet_paints_them():
    assert label_values(REGIONS) == {"background": 0, "whole": 1, "core": 2, "enhancing": 3}
    segments = [Segment("enhancing", 1, 2), Segment("whole", 1, 0), Segment("core", 1, 1)]
    array = layers({0: 1, 1: 1, 2: 1, 3: 1}, {1: 1, 2: 1}, {2: 1})
    assert mapped(array, segments, REGIONS)[0] == [1, 2, 3, 1, 0, 0]


def test_a_segment_of_a_layer_that_is_not_there_is_refused():
    with pytest.raises(BadCase, match="has no layer 3"):
        mapped(layers({0: 1}), [Segment("myocardium", 1, 3)])


def test_values_that_no_label_is_painted_with_can_be_named_by_their_number():
    dataset = {"labels": {"background": 0, "whole": [1, 2]}, "regions_class_order": [1]}
    assert mapped(layers({0: 1, 1: 2}), [Segment("whole", 1, 0), Segment("label 2", 2, 0)], dataset)[0] == [
        1,
        2,
        0,
        0,
        0,
        0,
    ]


@pytest.mark.parametrize(("one", "other"), [("node+", "node-"), ("+", "++"), ("GTV 1", "GTV-1"), ("A", "a.")])
def test_labels_whose_names_differ_in_signs_only_stay_apart(one, other):
    dataset = {"labels": {"background": 0, one: 1, other: 2}}
    segments = [Segment(other, 1, 0), Segment(one, 2, 0)]  # the names count, not the values
    assert mapped(layers({0: 1, 1: 2}), segments, dataset) == ([2, 1, 0, 0, 0, 0], [])


def test_another_spelling_counts_only_where_it_leaves_no_doubt():
    dataset = {"labels": {"background": 0, "GTV 1": 1, "GTV-1": 2}}
    found, notes = mapped(layers({0: 2}), [Segment("gtv1", 2, 0)], dataset)
    assert found == [2, 0, 0, 0, 0, 0] and "taken for GTV-1 by its label value 2" in notes[0]
    node = {"labels": {"background": 0, "node+": 1}}
    with pytest.raises(BadCase, match="segment 'node-'"):  # not the label, and no label has its value
        mapped(layers({0: 2}), [Segment("node-", 2, 0)], node)
    with pytest.raises(BadCase, match="segment 'lv_1'"):  # the exact name is drawn as well
        mapped(
            layers({0: 1, 1: 2}),
            [Segment("LV 1", 1, 0), Segment("lv_1", 2, 0)],
            {"labels": {"background": 0, "LV 1": 1}},
        )


def test_an_empty_segment_of_another_spelling_takes_nothing_from_a_drawn_one():
    segments = [Segment("left-ventricle", 1, 0), Segment("LEFT VENTRICLE", 2, 0)]
    assert mapped(layers({0: 1}), segments)[0] == [1, 0, 0, 0, 0, 0]
