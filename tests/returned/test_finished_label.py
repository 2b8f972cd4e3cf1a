from __future__ import annotations

import numpy as np

from nnunet_active.returned.finished_label import FinishedLabel, SeenFile


def test_a_file_that_is_the_only_one_becomes_a_label_that_knows_its_place_and_what_it_holds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    relative = (tmp_path / "a.nii.gz").relative_to(tmp_path)
    seen = SeenFile(relative, [12, 34], "without background", np.zeros((1, 2, 3), np.uint8), "as it is", in_part=True)
    label = FinishedLabel.of(seen)
    assert label.files == {str(tmp_path / "a.nii.gz"): [12, 34, "without background"]} and label.slices is None
    assert label.contents == ("as it is",) and label.digest == "without background" and not label.accepted
