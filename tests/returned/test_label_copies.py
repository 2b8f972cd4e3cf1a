from __future__ import annotations

import os

import tiny_dataset as tiny

from nnunet_active.returned.label_copies import file_state, keep_copy

ENDING = tiny.ENDING


def test_a_replaced_file_is_kept_once_and_keeps_its_time(tmp_path):
    file = tmp_path / "a.nii.gz"
    for content in ("one", "two", "one"):
        file.write_text(content)
        os.utime(file, (1e9, 1e9))
        kept = keep_copy(file, tmp_path / "kept", "a", ENDING)
        assert kept.read_text() == content and kept.stat().st_mtime == 1e9 and kept.name.endswith(ENDING)
        assert keep_copy(file, tmp_path / "kept", "a", ENDING) == kept
    assert len(list((tmp_path / "kept").iterdir())) == 2
    assert sorted(path.read_text() for path in (tmp_path / "kept").iterdir()) == ["one", "two"]


def test_a_file_that_is_saved_again_has_another_state(tmp_path):
    file = tmp_path / "a.nii.gz"
    file.write_text("one")
    os.utime(file, (1e9, 1e9))
    before = file_state(file)
    assert file_state(file) == before
    os.utime(file, (1e9, 2e9))
    assert file_state(file) != before
