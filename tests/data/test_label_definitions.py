from __future__ import annotations

import pytest

from nnunet_active.data.label_definitions import foreground_classes, label_problems

GOOD = {"background": 0, "tumour": 1, "oedema": 2}


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (GOOD, None),
        ({**GOOD, "ignore": 3}, None),
        ({"background": "0", "tumour": 1.0}, None),
        ({"background": 0, "node+": 1, "node-": 2}, None),
        ({"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}, [1, 2]),
        ({"background": 0, "whole": [1, 2, 4], "enhancing": 4}, [1, 4]),  # nnU-Net trains regions of any values
    ],
)
def test_labels_that_nnunet_can_train_on_have_no_problem(labels, order):
    assert label_problems(labels, order) == []


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["background", "tumour"], 'must map names to integers .*found \\["background"'),
        ({"0": "background", "1": "tumour"}, "names and numbers are the wrong way round"),
        ({"background": 0, "tumour": -1}, "from 0 up; found tumour: -1"),
        ({"background": 0, "tumour": 1.5}, "found tumour: 1.5"),
        ({"background": 0, "tumour": "one"}, 'found tumour: "one"'),
        ({"background": 0, "tumour": True}, "found tumour: true"),
        ({"background": 0, "tumour": []}, "found tumour: \\[\\]"),
        ({"background": 0, "tumour": None}, "found tumour: null"),
        ({"background": 0, "tumour": float("inf")}, "found tumour: Infinity"),
        ({"tumour": 1}, "must have .background.: 0, .*it has none"),
        ({"Background": 0, "tumour": 1}, "spelled like this"),
        ({"background": 1, "tumour": 0}, "must have .background.: 0, .*found 1"),
        ({"background": 0, "tumour": 1, "oedema": 3}, "a gap \\(2 of 0 to 3 missing\\)"),
        ({"background": 0, "tumour": 2, "oedema": 3}, "a gap \\(1 of 0 to 3 missing\\)"),
        ({"background": 0, "tumour": 1, "oedema": 1}, "labels tumour and oedema have the same value 1"),
        ({"background": 0, "tumour": 1, "Tumour ": 2}, "'tumour' and 'Tumour ' differ in capitals or blanks only"),
        ({"background": 0, "": 1}, "a label has no name"),
        ({"background": 0, "ignore": 1, "tumour": 2}, "a gap|highest value plus one"),
        ({"background": 0, "tumour": 1, "ignore": 5}, "highest value plus one, 2, not 5"),
        ({"background": 0, "tumour": 1, "ignore": [2]}, "must be one value"),
        ({"ignore": 0}, "must have .background.: 0"),
        ({"background": 0, "whole": [1, 2], "core": [2]}, "regions whole, core, .*it is not there"),
    ],
)
def test_labels_that_would_fail_later_are_named_at_once(labels, said):
    import re

    problems = label_problems(labels, None)
    assert problems and re.search(said, "; ".join(problems))


@pytest.mark.parametrize("order", [[1], [1, 2, 3], "12", [1, "x"], [1, -2]])
def test_an_order_of_the_regions_that_does_not_fit_is_named(order):
    (problem,) = label_problems({"background": 0, "whole": [1, 2], "core": [2]}, order)
    assert "must list one label value for each of the 2 regions whole, core" in problem


def test_background_and_ignore_are_no_foreground():
    assert foreground_classes({"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}) == {
        "whole": (1, 2),
        "core": (2,),
    }


def test_a_value_that_no_label_file_holds_is_named_and_fills_no_memory():
    (problem,) = label_problems({**GOOD, "core": 10**30}, None)
    assert "is higher than 65535" in problem


def test_a_value_in_the_order_of_regions_that_no_region_has_is_named():
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "ignore": 4}
    assert label_problems(labels, [1, 2]) == label_problems(labels, [2, 3]) == []
    (said,) = label_problems(labels, [1, 4])
    assert "; 4 is no value of a region: found [1, 4]" in said
