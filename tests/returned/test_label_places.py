from __future__ import annotations

import os

from nnunet_active.returned.label_places import file_state


def test_a_file_that_is_saved_again_has_another_state(tmp_path):
    file = tmp_path / "a.nii.gz"
    file.write_text("one")
    os.utime(file, (1e9, 1e9))
    before = file_state(file)
    assert file_state(file) == before
    os.utime(file, (1e9, 2e9))
    assert file_state(file) != before
