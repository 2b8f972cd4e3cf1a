from __future__ import annotations

from nnunet_active.training.validation_folder import FOLDER, KEPT, set_validation_aside


def test_predictions_of_cases_that_are_trained_on_by_now_are_moved_and_nothing_is_lost(tmp_path):
    assert set_validation_aside(tmp_path, ["a"], ".nii.gz") == []
    (tmp_path / FOLDER).mkdir()
    names = ["a.nii.gz", "b.nii.gz", "b.npz", "b.pkl", "c.1.nii.gz", "summary.json"]
    for name in names:
        (tmp_path / FOLDER / name).write_text(name)
    assert set_validation_aside(tmp_path, ["a"], ".nii.gz") == ["b", "c.1"]
    assert sorted(file.name for file in (tmp_path / FOLDER).iterdir()) == ["a.nii.gz", "summary.json"]
    assert sorted(file.name for file in (tmp_path / KEPT).iterdir()) == ["b.nii.gz", "b.npz", "b.pkl", "c.1.nii.gz"]
    (tmp_path / FOLDER / "b.nii.gz").write_text("again")
    assert set_validation_aside(tmp_path, ["a"], ".nii.gz") == ["b"]
    assert (tmp_path / KEPT / "b.nii.gz").read_text() == "again"
