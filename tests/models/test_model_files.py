from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from nnunet_active.models.model_files import (
    DEFAULT_CHECKPOINT,
    FolderStore,
    ZipStore,
    choose_fold,
    choose_model,
    read_json,
)
from nnunet_active.util.errors import ActiveError, MissingInput

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


def test_what_the_finder_and_nnunets_export_add_to_a_zip_is_no_model(tmp_path):
    model = "Dataset1_A/nnUNetTrainer__p__2d"
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        for name in ("plans.json", "fold_0/checkpoint_final.pth"):
            archive.writestr(f"{model}/{name}", "content")
            folder, _, file = name.rpartition("/")
            archive.writestr(f"__MACOSX/{model}/{folder}/._{file}", "the Finder's")
        archive.writestr(f"{model}/fold_0/._checkpoint_final.pth", "the Finder's")
        archive.writestr(f"{model}/crossval_results_folds_0_1/plans.json", "nnU-Net's export")
    store = ZipStore(tmp_path / "m.zip")
    assert store.models() == [model] and store.folds(model) == {"0": ["checkpoint_final.pth"]}


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


@pytest.fixture
def folder(tmp_path):
    """Two models with the default checkpoint."""
    for name in ("nnUNetTrainer__nnUNetPlans__2d", "nnUNetTrainer__nnUNetPlans__3d_fullres"):
        (tmp_path / name / "fold_0").mkdir(parents=True)
        (tmp_path / name / "fold_0" / DEFAULT_CHECKPOINT).write_bytes(b"")
        for file in ("plans.json", "dataset.json"):
            (tmp_path / name / file).write_text("{}")
    return tmp_path


def chosen(found, fold=None, checkpoint=DEFAULT_CHECKPOINT):
    notes: list[str] = []
    return (*choose_fold(FolderStore(Path("somewhere")), "model", found, fold, checkpoint, notes), notes)


def test_the_configuration_decides_between_models(folder):
    store = FolderStore(folder)
    assert choose_model(store, "2d").endswith("__2d")
    with pytest.raises(MissingInput, match=r"holds several models .*choose the configuration with -c"):
        choose_model(store, None)
    with pytest.raises(MissingInput, match=r"no model for the configuration 3d_lowres; found: .*2d, .*3d_fullres"):
        choose_model(store, "3d_lowres")


def test_a_folder_without_a_model_is_told_what_one_looks_like(tmp_path):
    with pytest.raises(
        MissingInput, match=r"expected a folder with plans.json, dataset.json and fold_X/checkpoint_final"
    ):
        choose_model(FolderStore(tmp_path), None)


def test_a_finished_checkpoint_of_a_higher_fold_goes_before_an_unfinished_one_of_a_lower():
    found = {"0": ["checkpoint_latest.pth"], "1": [DEFAULT_CHECKPOINT, "checkpoint_best.pth"]}
    fold, checkpoint, notes = chosen(found)
    assert (fold, checkpoint) == ("1", DEFAULT_CHECKPOINT)
    assert notes == ["Folds found: 0, 1; fold 1 is taken (another: select --model-folds, init --source-fold, plan -f)."]


def test_the_best_checkpoint_goes_before_the_latest_and_only_in_the_place_of_the_default():
    found = {"0": ["checkpoint_latest.pth", "checkpoint_best.pth"]}
    fold, checkpoint, notes = chosen(found, 0)
    assert (fold, checkpoint) == ("0", "checkpoint_best.pth") and "taken in its place" in notes[0]
    with pytest.raises(
        MissingInput, match=r"has no mine.pth; found fold_0: checkpoint_latest.pth, checkpoint_best.pth"
    ):
        chosen(found, 0, "mine.pth")


@pytest.mark.parametrize(
    ("found", "said"), [({}, "no fold_X folder"), ({"0": ["x.pth"]}, "no checkpoint for fold 3; folds found: 0")]
)
def test_a_fold_that_is_not_there_is_named(found, said):
    with pytest.raises(MissingInput, match=said):
        chosen(found, 3)


def test_a_description_is_an_object_or_a_clear_sentence(folder):
    store, model = FolderStore(folder), "nnUNetTrainer__nnUNetPlans__2d"
    assert read_json(store, model, "plans.json", required=True) == {}
    assert read_json(store, model, "dataset_fingerprint.json", required=False) is None
    with pytest.raises(MissingInput, match=r"dataset_fingerprint.json was not found"):
        read_json(store, model, "dataset_fingerprint.json", required=True)
    for content, said in (("{", "is not valid JSON"), ("[]", "holds a list where an object was expected")):
        (folder / model / "plans.json").write_text(content)
        with pytest.raises(ActiveError, match=said):
            read_json(store, model, "plans.json", required=True)


def test_a_model_of_nnunet_v1_is_told_as_such(tmp_path):
    (tmp_path / "nnUNetTrainerV2__nnUNetPlansv2.1").mkdir()
    (tmp_path / "nnUNetTrainerV2__nnUNetPlansv2.1" / "plans.pkl").write_bytes(b"x")
    for place in (tmp_path, tmp_path / "nnUNetTrainerV2__nnUNetPlansv2.1"):
        with pytest.raises(MissingInput, match="holds a model of nnU-Net v1"):
            choose_model(FolderStore(place), None)
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.writestr("a/b/plans.pkl", b"x")
    with pytest.raises(MissingInput, match="holds a model of nnU-Net v1"):
        choose_model(ZipStore(tmp_path / "m.zip"), None)
