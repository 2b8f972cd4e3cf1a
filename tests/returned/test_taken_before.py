from __future__ import annotations

import numpy as np
import pytest

from nnunet_active.returned.label_places import file_state, place_of
from nnunet_active.returned.taken_before import TakenBefore, slice_digests


def facts_of(file, digest: str, *contents: str) -> dict:
    entry = [*file_state(file), digest]
    return {"files": {place_of(file): entry}, "digest": digest, **({"contents": [*contents]} if contents else {})}


@pytest.fixture
def file(tmp_path):
    made = tmp_path / "handoff" / "a.nii.gz"
    made.parent.mkdir()
    made.write_text("label")
    return made


def test_a_file_that_nobody_touched_is_known_by_whatever_path(file, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(file.parent)
    monkeypatch.chdir(tmp_path)
    before = TakenBefore.of(facts_of(file, "d"))
    for path in (file, tmp_path / "link" / file.name, file.relative_to(tmp_path)):
        assert before.is_untouched(path)
    # a record that was written when the path was a relative one
    relative = {**facts_of(file, "d"), "files": {"handoff/a.nii.gz": [*file_state(file), "d"]}}
    assert TakenBefore.of(relative).is_untouched(file)
    file.write_text("another")
    assert not before.is_untouched(file)


def test_a_label_that_was_replaced_is_older_wherever_it_comes_from(file, tmp_path):
    before = TakenBefore.of(facts_of(file, "second", "first", "second"))
    moved = tmp_path / "moved" / "a.nii.gz"
    assert before.kind_of(moved, "first", "first", in_use=False) == "older"
    assert before.kind_of(moved, "second", "second", in_use=False) == "same"
    assert before.kind_of(moved, "third", "third", in_use=False) == "news"


def test_what_somebody_changed_at_its_place_or_put_into_labelstr_is_news_be_it_a_step_back(file, tmp_path):
    before = TakenBefore.of(facts_of(file, "second", "first", "second"))
    assert before.kind_of(file, "first", "first", in_use=False) == "news"
    assert before.kind_of(file, "second", "second", in_use=False) == "same"
    assert before.kind_of(tmp_path / "labelsTr" / "a.nii.gz", "first", "first", in_use=True) == "news"


def test_a_record_without_a_history_knows_what_its_files_said(file, tmp_path):
    before = TakenBefore.of({**facts_of(file, "first"), "digest": "second"})
    assert before.kind_of(tmp_path / "moved.nii.gz", "first", "first", in_use=False) == "older"


def test_of_a_case_without_a_record_everything_is_news(file):
    before = TakenBefore.of({})
    assert not before.is_untouched(file) and before.kind_of(file, "a", "a", in_use=False) == "news"


def test_a_slice_is_known_by_what_the_file_said_last_and_from_a_new_place_by_what_was_ever_taken(file, tmp_path):
    first, second = np.full((3, 2, 2), 3), np.full((3, 2, 2), 3)
    first[1], second[1], second[2] = 1, 2, 0
    was, now = slice_digests(first, 0, 3), slice_digests(second.astype(np.uint8), 0, 3)
    assert [one.partition(":")[0] for one in (*was, *now)] == ["1", "1", "2"] and was[0] != now[0]
    files = {str(file): [*file_state(file), *now, "digest"]}
    before = TakenBefore.of({"files": files, "digest": "digest", "contents": ["digest", *was, *now]})
    assert before.repeated_slices(file, first, 0, 3) == set()  # a step back is meant
    assert before.repeated_slices(file, second, 0, 3) == {1, 2}
    assert before.repeated_slices(tmp_path / "moved" / file.name, first, 0, 3) == {1}
    of_an_earlier_version = TakenBefore.of({"files": {str(file): [*file_state(file), "digest"]}, "digest": "digest"})
    assert of_an_earlier_version.repeated_slices(file, second, 0, 3) == set()
