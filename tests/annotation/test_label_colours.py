from __future__ import annotations

from nnunet_active.annotation.label_colours import labels_of


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
