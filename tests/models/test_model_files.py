from __future__ import annotations

import zipfile

import pytest

from nnunet_active.models.model_files import FolderStore, ZipStore

FILES = {
    "Dataset1_A/nnUNetTrainer__p__2d/plans.json": "{}",
    "Dataset1_A/nnUNetTrainer__p__2d/fold_10/checkpoint_final.pth": "",
    "Dataset1_A/nnUNetTrainer__p__2d/fold_2/checkpoint_best.pth": "",
    "Dataset1_A/nnUNetTrainer__p__2d/fold_2/validation/summary.json": "",
    "Dataset1_A/nnUNetTrainer__p__2d/fold_all/checkpoint_final.pth": "",
    "Dataset1_A/nnUNetTrainer__p__2d/fold_3/progress.png": "",
    "Dataset1_A/nnUNetTrainer__p__2d/fold_x/checkpoint_final.pth": "",
    "Dataset1_A/nnUNetTrainer__p__3d_fullres/fold_0/checkpoint_final.pth": "weights",
    "Dataset1_A/ensembles/plans.txt": "",
}


@pytest.fixture(params=["folder", "zip"])
def store(request, tmp_path):
    for name, content in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    if request.param == "folder":
        return FolderStore(tmp_path / "Dataset1_A"), ""
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        for name in FILES:
            archive.write(tmp_path / name, name)
    return ZipStore(tmp_path / "model.zip"), "Dataset1_A/"


def test_models_are_found_by_their_plans_or_their_checkpoints(store):
    store, root = store
    assert store.models() == [f"{root}nnUNetTrainer__p__2d", f"{root}nnUNetTrainer__p__3d_fullres"]


def test_folds_come_by_number_and_all_last(store):
    store, root = store
    folds = store.folds(f"{root}nnUNetTrainer__p__2d")
    assert list(folds.items()) == [
        ("2", ["checkpoint_best.pth"]),
        ("10", ["checkpoint_final.pth"]),
        ("all", ["checkpoint_final.pth"]),
    ]


def test_files_are_read_and_missing_ones_are_none(store):
    store, root = store
    assert store.read(f"{root}nnUNetTrainer__p__2d", "plans.json") == b"{}"
    assert store.read(f"{root}nnUNetTrainer__p__3d_fullres", "plans.json") is None
    with store.local_file(f"{root}nnUNetTrainer__p__3d_fullres", "fold_0/checkpoint_final.pth") as file:
        assert file.read_text() == "weights"
