from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from report_campaign import CASES, LPS, RAS, SHAPE, add_round, make_setting, uncertainty, write_archive
from tiny_rounds import mark_drawn

from nnunet_active.annotation.image_record import record_file, write_image_record
from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.report.case_card import case_card, ct_windows
from nnunet_active.rounds.round_table import Query


def card(setting, case="case_2", **more):
    one = next(one for one in setting.campaign.rounds if case in one.requested)
    return case_card(setting.campaign, Query.of_round(one), case, setting.raw, setting.plans, **more)


@pytest.mark.parametrize("direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), RAS])
def test_the_slices_meet_in_the_most_uncertain_place_whatever_the_orientation(nnunet_folders, direction):
    setting = make_setting(nnunet_folders, direction=direction)
    content = card(setting)
    assert content["notes"] == [] and content["open_first"] == "FLAIR"
    # the middle of the uncertain block: slices are 3 mm, so the neighbourhood is 2 x 6 x 6 voxels
    sentence = next(one for one in content["facts"] if "least certain" in one)
    i, j, k = (int(text) - 1 for text in sentence.split("voxel (")[1].split(")")[0].split(","))
    assert abs(i - 12) <= 1 and abs(j - 10) <= 1 and abs(k - 4) <= 1
    image = sitk.ReadImage(str(setting.raw.cases["case_2"].images[0]))
    lps = image.TransformIndexToPhysicalPoint((i, j, k))
    named = sentence.split("; ")[1].removesuffix(" mm in 3D Slicer.")
    assert named == ", ".join(
        f"{pair[int(mm < 0)]} {abs(mm):.0f}" for mm, pair in zip(lps, ("LR", "PA", "SI"), strict=True)
    )
    assert [view["name"] for view in content["views"]] == ["axial", "coronal", "sagittal"]
    assert [view["number"] for view in content["views"]] == [k + 1, j + 1, i + 1]
    assert all(view["uncertainty"] for view in content["views"])


def card_of_slices(folders, *numbers: int, direction=LPS) -> dict:
    setting = make_setting(folders, rounds=0, direction=direction, unit="slice", budget=8, query_size=8, per_case=8)
    add_round(setting, ["case_0"], slices={"case_0": list(numbers)})
    return card(setting, "case_0", handed={"case_0": {"slices": {"axial": [7, 1], "sagittal": [9]}}})


@pytest.mark.parametrize("direction", [LPS, (1, 0, 0, 0, -1, 0, 0, 0, -1)])
def test_where_slices_are_asked_for_these_are_named_and_shown_and_no_others(nnunet_folders, direction):
    content = card_of_slices(nnunet_folders, 2, 5, direction=direction)
    assert "Label slices 3, 6 along z (axial), counted from 1." in content["facts"] and content["notes"] == []
    assert not any("worth looking" in fact or "slices meet" in fact for fact in content["facts"])
    assert "Predicted in the whole scan: 0.6 cm³." in content["facts"]
    assert [(view["caption"], view["mark"]) for view in content["views"]] == [("axial 3", None), ("axial 6", None)]
    # of the file's slices, 3 to 5 (from 0) are uncertain
    assert [view["uncertainty"] is not None for view in content["views"]] == [False, True]
    assert [len(channel["pictures"]) for channel in content["channels"]] == [2, 2]


def test_slices_along_another_axis_of_the_file_have_the_plane_of_that_axis(nnunet_folders):
    content = card_of_slices(
        nnunet_folders, 1, 3, direction=(0, 0, 1, 1, 0, 0, 0, 1, 0)
    )  # z of the file runs to the left
    assert "Label slices 2, 4 along z (sagittal), counted from 1." in content["facts"]
    assert [view["caption"] for view in content["views"]] == ["sagittal 2", "sagittal 4"]


def test_of_many_slices_the_first_three_are_shown(nnunet_folders):
    assert [view["number"] for view in card_of_slices(nnunet_folders, 1, 3, 5, 6)["views"]] == [2, 4, 6]


def test_a_slice_that_the_image_lacks_is_named(nnunet_folders):
    content = card_of_slices(nnunet_folders, SHAPE[0])
    (note,) = content["notes"]
    assert note == "Pictures are missing: slice 9 along z was asked for, and the image has no such slice."


def test_every_channel_has_its_pictures_and_the_one_to_open_comes_first(nnunet_folders):
    content = card(make_setting(nnunet_folders))
    assert [(channel["name"], channel["first"], len(channel["pictures"])) for channel in content["channels"]] == [
        ("FLAIR", True, 3),
        ("T1", False, 3),
    ]
    assert content["channels"][0]["pictures"][0] != content["channels"][1]["pictures"][0]
    assert set(content["legend"]) <= {"oedema", "core"} and content["legend"]


@pytest.mark.parametrize(("known", "told"), [(0.25, "which drew it with probability 0.25."), (None, "which drew it.")])
def test_a_case_that_was_drawn_has_no_rank(nnunet_folders, known, told):
    setting = make_setting(nnunet_folders)
    mark_drawn(setting.campaign.rounds[1], known)
    assert card(setting)["facts"][0] == f"Asked for in round 2 (choice 1 of 2) by the strategy mmacts, {told}"


def test_the_facts_say_why_and_what_in_words(nnunet_folders):
    facts = card(make_setting(nnunet_folders))["facts"]
    assert (
        facts[0]
        == "Asked for in round 2 (choice 1 of 2) by the strategy mmacts: utility 9, the highest of 4 at the start."
    )
    assert facts[1].startswith("Open FLAIR first: this channel alone") and "Dice 0.80" in facts[1]
    assert facts[2] == "Predicted: 0.6 cm³."


def test_without_a_hand_off_the_middle_is_shown_and_the_command_is_named(nnunet_folders):
    content = card(make_setting(nnunet_folders, archive=False))
    assert len(content["notes"]) == 1 and "nnunet_active annotate" in content["notes"][0]
    assert any(sentence.startswith("The slices meet in the middle, voxel (10, 11, 5)") for sentence in content["facts"])
    assert content["legend"] == [] and len(content["channels"]) == 2
    assert [view["uncertainty"] for view in content["views"]] == [None] * 3


def test_without_an_uncertainty_map_the_largest_section_is_shown(nnunet_folders):
    setting = make_setting(nnunet_folders)
    (setting.campaign.predictions_folder(2) / "case_2_uncertainty.nii.gz").unlink()
    content = card(setting)
    assert any("largest section" in sentence for sentence in content["facts"]) and content["legend"]
    assert "case_2_uncertainty.nii.gz was not found" in content["notes"][0]


def test_a_prediction_of_an_image_that_was_replaced_is_told(nnunet_folders):
    setting = make_setting(nnunet_folders)
    images = setting.raw.cases["case_2"].images
    write_image_record(record_file(setting.campaign.predictions_folder(2), "case_2"), images)
    assert not any("replaced" in note for note in card(setting)["notes"])
    image = sitk.ReadImage(str(images[0]))
    sitk.WriteImage(image + 1, str(images[0]))
    assert any("The image was replaced after its prediction" in note for note in card(setting)["notes"])


def test_a_map_on_another_grid_is_named_and_not_drawn(nnunet_folders):
    setting = make_setting(nnunet_folders)
    write_archive(setting, 2, "case_2", uncertainty()[:-1], "_uncertainty.nii.gz")
    content = card(setting)
    assert any("it is not drawn" in note for note in content["notes"])
    assert [view["uncertainty"] for view in content["views"]] == [None] * 3


def test_an_image_that_is_gone_or_broken_leaves_the_rest_of_the_card(nnunet_folders):
    setting = make_setting(nnunet_folders)
    setting.raw.cases["case_2"].images[1].write_bytes(b"broken")
    content = card(setting)
    assert (
        "Pictures are missing" in content["notes"][-1] and "case_2_0001" in content["notes"][-1] and content["factors"]
    )
    for file in setting.raw.cases["case_3"].images:
        file.unlink()
    content = card(setting, "case_3")
    assert (
        content["notes"] == [f"The images of case_3 were not found in {setting.raw.name}."] and not content["channels"]
    )


def test_channels_of_different_shapes_are_named(nnunet_folders):
    setting = make_setting(nnunet_folders)
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6), np.float32)), str(setting.raw.cases["case_2"].images[1]))
    assert "differ in shape" in card(setting)["notes"][-1]


def test_pictures_can_be_left_out(nnunet_folders):
    content = card(make_setting(nnunet_folders), pictures=False)
    assert (
        content["channels"] == [] and content["views"] == [] and content["notes"] == [] and len(content["facts"]) == 3
    )


def test_an_oblique_scan_is_said_to_be_tilted(nnunet_folders):
    c, s = np.cos(0.3), np.sin(0.3)
    content = card(make_setting(nnunet_folders, direction=(c, -s, 0, s, c, 0, 0, 0, 1)))
    assert any("tilted by up to 17 degrees" in note for note in content["notes"])


def test_all_views_of_a_case_are_on_one_scale_and_none_is_wider_than_a_column(nnunet_folders):
    content = card(make_setting(nnunet_folders))
    scales = {round(view["share"] / view["width_mm"], 1) for view in content["views"]}
    assert len(scales) == 1
    assert (
        max(max(view["share"], view["share"] * view["height_mm"] / view["width_mm"] / 1.3) for view in content["views"])
        == 100
    )


def test_of_a_case_that_waits_no_longer_annotate_is_not_asked_for(nnunet_folders):
    (note,) = card(make_setting(nnunet_folders, archive=False), "case_0")["notes"]
    assert "was not kept" in note and "annotate" not in note


def test_an_empty_prediction_is_said(nnunet_folders):
    setting = make_setting(nnunet_folders)
    for ending in (".nii.gz", "_uncertainty.nii.gz"):
        write_archive(setting, 2, "case_2", np.zeros(SHAPE, np.uint8), ending)
    content = card(setting)
    assert any(
        sentence.startswith("Nothing is predicted: the slices meet in the middle") for sentence in content["facts"]
    )
    assert content["legend"] == [] and content["notes"] == []


def test_of_a_single_channel_nothing_is_opened_first(nnunet_folders):
    content = card(make_setting(nnunet_folders, channels=("CT",)))
    assert [channel["first"] for channel in content["channels"]] == [False]
    assert not any(sentence.startswith("Open ") for sentence in content["facts"])


def test_a_declined_case_says_why(nnunet_folders):
    content = card(make_setting(nnunet_folders), "case_1")
    assert content["status"] == "declined" and "Declined: moved <b>a lot</b>." in content["facts"]


def test_the_slices_that_the_hand_off_folder_recommends_are_named(nnunet_folders, tmp_path):
    setting = make_setting(nnunet_folders)
    folder = tmp_path / "handoff"
    folder.mkdir()
    entry = {
        "label_file": "case_2/case_2.nii.gz",
        "digest": "",
        "open_first": "T1",
        "slices": {"axial": [3, 4], "sagittal": 7},
    }
    content = {"format": 1, "dataset": setting.raw.name, "fold": "0", "round": 2, "file_ending": ".nii.gz"}
    (folder / "handoff.json").write_text(json.dumps({**content, "cases": {"case_2": entry}}))
    setting.campaign.record_handoff(2, folder)
    assert any("axial 3, 4; sagittal 7" in sentence for sentence in card(setting, pictures=False)["facts"])
    setting.campaign.record_handoff(2, tmp_path / "gone")
    assert not any("worth looking" in sentence for sentence in card(setting, pictures=False)["facts"])


def test_a_flat_picture_has_one_view_without_millimetres(nnunet_folders, tmp_path):
    setting = make_setting(nnunet_folders)
    folder = tmp_path / "Dataset902_Flat"
    (folder / "imagesTr").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for case in CASES:
        Image.fromarray(rng.integers(0, 255, (12, 10, 3), dtype=np.uint8)).save(
            folder / "imagesTr" / f"{case}_0000.png"
        )
    names = {"0": "R", "1": "G", "2": "B"}
    content = {"channel_names": names, "labels": {"background": 0, "road": 1}, "file_ending": ".png"}
    (folder / "dataset.json").write_text(json.dumps(content))
    archive = setting.campaign.predictions_folder(2)
    label = np.zeros((12, 10), dtype=np.uint8)
    label[3:6, 2:7] = 1
    Image.fromarray(label).save(archive / "case_2.png")
    values = np.zeros((1, 12, 10), dtype=np.float32)
    values[0, 1:6, 1:6] = 0.6
    image = sitk.GetImageFromArray(values)
    image.SetDirection(RAS)  # says nothing here: the picture itself has no sides
    sitk.WriteImage(image, str(archive / "case_2_uncertainty.nii.gz"))
    plans = {**setting.plans, "image_reader_writer": "NaturalImage2DIO"}
    found = case_card(setting.campaign, Query.of_round(setting.campaign.rounds[1]), "case_2", RawDataset(folder), plans)
    assert [channel["name"] for channel in found["channels"]] == ["R", "G", "B"] and found["notes"] == []
    (view,) = found["views"]
    assert max(view["mark"]) < 6  # within the uncertain block, and not in its mirror image
    assert view["name"] == "image" and view["letters"] == () and list(view["outlines"]) == ["road"]
    assert any("least certain" in fact and fact.endswith("counted from 1.") for fact in found["facts"])
    assert "Predicted: 200 pixels." in found["facts"] and not any("Slicer" in fact for fact in found["facts"])


def test_ct_is_shown_in_the_range_of_its_foreground():
    plans = {
        "configurations": {"2d": {"normalization_schemes": ["CTNormalization", "ZScoreNormalization"]}},
        "foreground_intensity_properties_per_channel": {
            "0": {"percentile_00_5": -100.0, "percentile_99_5": 300.0},
            "1": {},
        },
    }
    plans["configurations"]["larger"] = {"inherits_from": "2d", "batch_size": 9}
    for name in ("2d", "larger"):
        assert ct_windows(plans, name) == {0: (-300.0, 500.0)}
    assert ct_windows(plans, "3d") == {}
