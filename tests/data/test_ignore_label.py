from __future__ import annotations

import json

import pytest
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_active.data import ignore_label
from nnunet_active.data.dataset_json import ignore_value
from nnunet_active.data.ignore_label import (
    KEPT,
    add_ignore_label,
    missing_line,
    require_ignore_value,
    with_ignore_label,
)
from nnunet_active.util.errors import MissingInput

PLAIN = {"labels": {"background": 0, "oedema": 1, "core": 2}, "file_ending": ".nii.gz", "channel_names": {"0": "T1"}}
REGIONS = {**PLAIN, "labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]}


def written(folder, content=PLAIN):
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "dataset.json"
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize("content", [PLAIN, REGIONS])
def test_what_is_written_is_the_ignore_label_of_nnunet_itself(tmp_path, content):
    file = written(tmp_path, content)
    add_ignore_label([file])
    found = json.loads(file.read_text())
    manager = LabelManager(found["labels"], found.get("regions_class_order"))
    assert manager.ignore_label == 3 == ignore_value(found)
    assert (
        manager.num_segmentation_heads
        == LabelManager(content["labels"], content.get("regions_class_order")).num_segmentation_heads
    )


def test_both_copies_are_written_and_the_old_ones_kept(tmp_path):
    files = [written(tmp_path / "raw"), written(tmp_path / "preprocessed", {**PLAIN, "numTraining": 4})]
    before = [file.read_bytes() for file in files]
    assert add_ignore_label(files) == files
    for file, old in zip(files, before, strict=True):
        assert file.with_name(KEPT).read_bytes() == old
        found = json.loads(file.read_text())
        assert found.pop("labels") == {**PLAIN["labels"], "ignore": 3}
        assert found == {key: value for key, value in json.loads(old).items() if key != "labels"}


def test_a_second_call_changes_nothing(tmp_path):
    file = written(tmp_path)
    add_ignore_label([file])
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    assert add_ignore_label([file]) == []
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before


def test_after_a_kill_between_the_two_the_same_call_writes_the_second(tmp_path, monkeypatch):
    files = [written(tmp_path / "raw"), written(tmp_path / "preprocessed")]
    real = ignore_label.write_json
    monkeypatch.setattr(
        ignore_label, "write_json", lambda file, content: real(file, content) if file == files[0] else 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        add_ignore_label(files)
    monkeypatch.undo()
    assert add_ignore_label(files) == files[1:]
    assert all(ignore_value(json.loads(file.read_text())) == 3 for file in files)


@pytest.mark.parametrize(
    "second",
    [
        {**PLAIN, "labels": {"background": 0, "oedema": 1}},
        {**PLAIN, "labels": {**PLAIN["labels"], "ignore": 7}},
    ],
)
def test_copies_that_disagree_are_refused_and_left_as_they_are(tmp_path, second):
    files = [written(tmp_path / "raw"), written(tmp_path / "preprocessed", second)]
    before = [file.read_bytes() for file in files]
    with pytest.raises(MissingInput):
        add_ignore_label(files)
    assert [file.read_bytes() for file in files] == before and not files[0].with_name(KEPT).exists()


def test_a_file_that_is_not_there_stops_the_other_from_being_written(tmp_path):
    file = written(tmp_path / "raw")
    with pytest.raises(MissingInput, match="was not found"):
        add_ignore_label([file, tmp_path / "preprocessed" / "dataset.json"])
    assert json.loads(file.read_text()) == PLAIN


def test_the_sentence_says_which_line_is_missing_and_which_flag_writes_it(tmp_path):
    with pytest.raises(MissingInput) as error:
        require_ignore_value(PLAIN, tmp_path / "dataset.json")
    for part in (str(tmp_path / "dataset.json"), '"ignore": 3', "--add-ignore-label"):
        assert part in str(error.value)
    assert ignore_value(PLAIN) is None and missing_line(PLAIN) == '"ignore": 3'


@pytest.mark.parametrize("content", [PLAIN, REGIONS])
def test_a_content_gets_the_label_once_and_keeps_all_else(content):
    found = with_ignore_label(content)
    assert found == {**content, "labels": {**content["labels"], "ignore": 3}} and "ignore" not in content["labels"]
    assert with_ignore_label(found) == found


def test_values_that_are_typed_as_text_in_one_copy_are_equal(tmp_path):
    typed = {**PLAIN, "labels": {"background": 0, "oedema": "1", "core": "2"}}
    files = [written(tmp_path / "raw", typed), written(tmp_path / "preprocessed")]
    assert add_ignore_label(files) == files
    assert [ignore_value(json.loads(file.read_text())) for file in files] == [3, 3]
