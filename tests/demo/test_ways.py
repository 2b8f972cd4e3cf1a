from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from tiny_target import make_target

from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.demo.ways import EVERYTHING, MMACTS, SLICES, Plan, slices_with_foreground, ways_to_adapt

DRAWN = {"a": 4, "b": 6, "c": 8, "d": 10}


def test_slices_cost_as_much_drawing_as_the_whole_scans():
    ways = ways_to_adapt(Plan(budget=3, epochs=9), DRAWN, DRAWN)
    assert list(ways) == ["random", MMACTS, SLICES, EVERYTHING]
    slices = ways[SLICES]
    assert slices.in_slices and slices.budget == 3 * 7
    assert {one.queries for name, one in ways.items() if name != EVERYTHING} == {3}
    assert ways[EVERYTHING].budget == 4 and ways[EVERYTHING].one_off


def test_each_random_draw_has_a_seed_and_a_name_of_its_own():
    ways = ways_to_adapt(Plan(random_draws=2, seed=5), DRAWN, DRAWN)
    assert {name: one.seed for name, one in ways.items() if one.strategy == "random" and name != EVERYTHING} == {
        "random 1": 5,
        "random 2": 6,
    }


def test_without_slices_only_whole_images_are_asked_for():
    assert list(ways_to_adapt(Plan(), DRAWN, {})) == ["random", MMACTS, EVERYTHING]


@pytest.mark.parametrize("axis", [0, 2])
def test_slices_are_counted_along_the_axis_along_which_they_are_asked_for(nnunet_folders, axis):
    target = make_target(nnunet_folders, labelled=1, unlabelled=0)
    (file,) = (target.raw / "labelsTr").iterdir()
    image = sitk.ReadImage(str(file))
    voxels = np.zeros_like(sitk.GetArrayFromImage(image))
    np.moveaxis(voxels, axis, 0)[2:5] = 1
    label = sitk.GetImageFromArray(voxels)
    label.SetSpacing([5.0 if 2 - axis == number else 1.0 for number in range(3)])
    sitk.WriteImage(label, str(file))
    assert list(slices_with_foreground(RawDataset(target.raw), ["case_0"]).values()) == [3]
