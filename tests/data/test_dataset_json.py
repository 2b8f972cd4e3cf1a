from __future__ import annotations

import json

import numpy as np
import pytest

from nnunet_active.data.dataset_json import (
    allowed_label_values,
    changed_description,
    channel_names,
    check_dataset_json,
    class_masks,
    distinct_channel_names,
    label_values,
    names_of_values,
    read_dataset_json,
)
from nnunet_active.util.errors import MissingInput

GOOD = {"channel_names": {"0": "T1", "1": "FLAIR"}, "labels": {"background": 0, "tumour": 1}, "file_ending": ".nii.gz"}


def with_changes(**changes) -> dict:
    return {**GOOD, **changes}


def test_a_good_file_is_returned_as_it_is_and_says_nothing(tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps(GOOD))
    assert read_dataset_json(tmp_path / "dataset.json") == (GOOD, ())


def test_a_byte_order_mark_is_read_over(tmp_path):
    (tmp_path / "dataset.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode())
    assert read_dataset_json(tmp_path / "dataset.json").content == GOOD


@pytest.mark.parametrize("text", ["{,}", "[1, 2", '"text"', "[]", "[" * 100_000, '{"labels": 1,\n}'])
def test_what_is_no_json_object_is_one_sentence_that_names_the_file(tmp_path, text):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(MissingInput, match=r"dataset\.json"):
        read_dataset_json(tmp_path / "dataset.json")


def test_a_file_that_is_not_there_and_whose_it_is_are_named(tmp_path):
    with pytest.raises(MissingInput, match=r"dataset\.json of the source model was not found"):
        read_dataset_json(tmp_path / "dataset.json", "the source model")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": None}, "lacks labels"),
        ({"file_ending": ""}, "lacks file_ending"),
        ({"channel_names": {}}, "lacks channel_names"),
        ({"channel_names": ["T1", "FLAIR"]}, 'must map channel numbers to names, .*found \\["T1", "FLAIR"\\]'),
        ({"channel_names": {"T1": 0, "FLAIR": 1}}, "names and numbers are the wrong way round"),
        ({"channel_names": {"0": "T1", "1": None}}, "every channel needs a name that is text"),
        ({"channel_names": {"0": 1}}, "every channel needs a name that is text"),
        ({"file_ending": 5}, '"file_ending" must be .* found 5'),
        ({"overwrite_image_reader_writer": 5}, "must be the name of a reader; found 5"),
        ({"file_ending": "nii.gz"}, 'with its dot, .* found "nii.gz"'),
        ({"labels": {"background": 0, "a": 2}, "file_ending": 7}, "gap .*; .file_ending. must be"),
    ],
)
def test_what_cannot_be_used_is_one_sentence_that_names_all_of_it(change, said):
    with pytest.raises(MissingInput, match=f"here .*{said}"):
        check_dataset_json(with_changes(**change), "here")


def test_a_key_that_is_there_twice_is_refused_since_readers_keep_the_last_in_silence(tmp_path):
    text = json.dumps(GOOD).replace('"tumour": 1', '"tumour": 1, "tumour": 2')
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(MissingInput, match="the key 'tumour' is there twice"):
        read_dataset_json(tmp_path / "dataset.json")


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (
            {"T1": "T1w", "F": "FLAIR"},
            "no channel numbers; as in nnU-Net their order counts: _0000 is T1w, _0001 is FLAIR",
        ),
        ({"0": "T1w", "00": "FLAIR"}, "their order counts: _0000 is T1w, _0001 is FLAIR"),
        ({"1": "T1w", "2": "FLAIR"}, "have the numbers 1, 2; their files are counted from _0000"),
        ({"1": "FLAIR", "0": "T1w"}, "not listed in the order of their numbers; the numbers count"),
    ],
)
def test_odd_channel_keys_are_put_in_order_and_that_is_said(named, said):
    content, (note,) = check_dataset_json(with_changes(channel_names=named), "here")
    assert content["channel_names"] == {"0": "T1w", "1": "FLAIR"} and said in note and "here" in note


def test_channels_are_ordered_by_their_number_not_by_their_place():
    assert channel_names({"channel_names": {"10": "k", "2": "c", "0": "a"}}) == ["a", "c", "k"]
    assert check_dataset_json(with_changes(channel_names={"0000": "MRI"}), "here") == (
        with_changes(channel_names={"0": "MRI"}),
        (),
    )


def test_the_older_name_of_the_channels_is_understood():
    assert channel_names({"modality": {"0": "MRI"}}) == ["MRI"]
    with pytest.raises(MissingInput, match="names no channels"):
        channel_names({})


def test_channels_of_one_name_are_told_apart_by_the_number_of_their_files():
    names = {"0": "CT", "1": "noNorm", "2": "ct", "3": "PET"}
    assert distinct_channel_names({"channel_names": names}) == ["CT 0000", "noNorm", "ct 0002", "PET"]
    assert channel_names({"channel_names": names}) == list(names.values())


def test_entries_that_are_null_count_as_absent():
    content, notes = check_dataset_json(with_changes(overwrite_image_reader_writer=None), "here")
    assert content == GOOD and notes == ()


def test_label_values_that_are_texts_become_the_integers_that_nnunet_takes_them_for():
    labels = {"background": "0", "tumour": 1.0, "ignore": "2"}
    content, _ = check_dataset_json(with_changes(labels=labels), "here")
    assert content["labels"] == {"background": 0, "tumour": 1, "ignore": 2}


def test_region_and_ignore_labels_are_taken_apart():
    labels = {"background": 0, "whole": [1, 2, 3], "core": (2, 3), "ignore": 4}
    assert allowed_label_values({"labels": labels}) == {0, 1, 2, 3, 4}


def test_labels_the_wrong_way_round_are_a_clear_error():
    with pytest.raises(MissingInput, match="labels"):
        allowed_label_values({"labels": {"0": "background", "1": "tumour"}})


def test_a_region_goes_by_the_value_that_nnunet_paints_it_with():
    regions = {"labels": {"background": 0, "whole": [1, 2, 3], "core": [3]}, "regions_class_order": [2, 3]}
    assert label_values(regions) == {"background": 0, "whole": 2, "core": 3}
    assert names_of_values(regions) == {"background": 0, "whole": 2, "core": 3, "label 1": 1}


def test_masks_leave_background_and_ignore_out():
    masks = class_masks(np.array([0, 1, 2, 3]), {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3})
    assert {name: mask.tolist() for name, mask in masks.items()} == {
        "whole": [False, True, True, False],
        "core": [False, False, True, False],
    }


def test_labels_that_changed_since_the_plans_were_made_are_named():
    before = with_changes(labels={"background": 0, "tumour": 1, "oedema": 2, "ignore": 3})
    assert changed_description(with_changes(labels={"background": 0, "tumour": 1, "oedema": 2}), before) is None
    said = changed_description(with_changes(labels={"background": 0, "tumour": 2, "cyst": 1}), before)
    assert "cyst (1) is new; oedema is gone; tumour has another value" in said and "planned again" in said


def test_channels_that_were_renamed_or_changed_places_are_named():
    said = changed_description(with_changes(channel_names={"0": "FLAIR", "1": "T1"}), GOOD)
    assert "channels FLAIR, T1 in place of T1, FLAIR" in said and "planned again" in said
    assert changed_description(with_changes(channel_names={"1": "FLAIR", "0": "T1"}), GOOD) is None
    older = {**GOOD, "modality": GOOD["channel_names"], "channel_names": None}
    assert changed_description(older, GOOD) is None


def test_an_order_of_regions_counts_only_where_there_are_regions_as_in_nnunet():
    plain = {"labels": {"background": 0, "a": 1, "b": 2}, "regions_class_order": [2, "x"]}
    assert label_values(plain) == {"background": 0, "a": 1, "b": 2}


@pytest.mark.parametrize(("ending", "whole"), [(".mhd", ".mha"), (".nhdr", ".nrrd"), (".MHD", ".mha")])
def test_a_format_with_the_voxels_in_a_second_file_is_refused_with_the_ending_to_use(ending, whole):
    with pytest.raises(MissingInput, match=f'save images and labels as "\\{whole}" and name that ending'):
        check_dataset_json(with_changes(file_ending=ending), "dataset.json")
