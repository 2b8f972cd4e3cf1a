from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.model_sharing.model_export import export_pretrained_model
from tiny_source import plans, source_model, write_trained

from nnunet_active.models.model_writing import save_source_model
from nnunet_active.models.source_model import find_source, read_source_model, source_folder
from nnunet_active.nnunet.networks import build_network
from nnunet_active.util.errors import ActiveError, IncompatibleSource, MissingInput

MODEL = "nnUNetTrainer__nnUNetPlans__3d_fullres"


@pytest.fixture(scope="module")
def source():
    return source_model()


@pytest.fixture
def trained(source, tmp_path):
    return write_trained(source, tmp_path / "Dataset900_Source" / MODEL)


def equal_weights(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("below", ["", "fold_0", "fold_0/checkpoint_final.pth", ".."])
def test_a_model_is_read_from_its_folder_its_fold_its_checkpoint_and_its_data_sets_folder(source, trained, below):
    read = read_source_model(trained / below)
    assert (read.configuration, read.fold, read.mirror_axes) == ("3d_fullres", "0", (0, 1, 2))
    assert read.plans == source.plans and read.dataset_json == source.dataset_json
    assert read.fingerprint == source.fingerprint and read.folds_found == ("0",) and read.notes == ()
    assert equal_weights(read.weights, source.weights)


def make_zip(trained: Path, file: Path, root: str = f"Dataset900_Source/{MODEL}") -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in trained.rglob("*"):
            if path.is_file():
                archive.write(path, f"{root}/{path.relative_to(trained).as_posix()}".lstrip("/"))
    return file


@pytest.mark.parametrize("root", [f"Dataset900_Source/{MODEL}", MODEL, ""])
def test_an_exported_zip_gives_the_same_model(source, trained, tmp_path, root):
    read = read_source_model(make_zip(trained, tmp_path / "model.zip", root))
    assert read.configuration == "3d_fullres" and equal_weights(read.weights, source.weights)


def test_the_zip_of_nnunets_own_export_is_read(source, trained, tmp_path, monkeypatch):
    for variable in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{variable}", str(tmp_path))
    for needed in ("progress.png", "validation/summary.json"):
        (trained / "fold_0" / needed).parent.mkdir(exist_ok=True)
        (trained / "fold_0" / needed).write_text("")
    export_pretrained_model("Dataset900_Source", str(tmp_path / "model.zip"), ("3d_fullres",), folds=(0,))
    read = read_source_model(tmp_path / "model.zip")
    assert read.fold == "0" and equal_weights(read.weights, source.weights) and read.plans == source.plans


def test_a_zip_cannot_write_outside(source, trained, tmp_path):
    (tmp_path / "inner").mkdir()
    file = make_zip(trained, tmp_path / "inner" / "model.zip")
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("../../evil.txt", "x")
        archive.writestr("../evil/plans.json", "{}")
    before = sorted(tmp_path.rglob("*"))
    read_source_model(file, configuration="3d_fullres")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_zip_is_named(tmp_path):
    (tmp_path / "model.zip").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(ActiveError, match=r"model\.zip is neither a model folder nor a readable zip"):
        read_source_model(tmp_path / "model.zip")


def test_a_damaged_member_of_a_zip_is_named(trained, tmp_path):
    file = make_zip(trained, tmp_path / "model.zip")
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        info = next(info for info in archive.infolist() if info.filename.endswith(".pth"))
    content[info.header_offset + 2000] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(ActiveError, match=r"model\.zip:.*checkpoint_final\.pth cannot be read"):
        read_source_model(file)


def test_the_lowest_fold_is_taken_and_the_others_are_named(source, trained):
    for fold in ("all", "10", "2"):
        write_trained(replace(source, weights={k: v + 1 for k, v in source.weights.items()}), trained, fold)
    read = read_source_model(trained)
    assert read.fold == "0" and read.folds_found == ("0", "2", "10", "all")
    assert read.notes == (
        "Folds found: 0, 2, 10, all; fold 0 is taken (another: select --model-folds, init --source-fold, plan -f).",
    )
    other = read_source_model(trained, fold=2)
    assert other.fold == "2" and not equal_weights(other.weights, source.weights)
    assert read_source_model(trained / "fold_all").fold == "all"
    with pytest.raises(MissingInput, match=r"no checkpoint for fold 1; folds found: 0, 2, 10, all"):
        read_source_model(trained, fold="1")


def test_a_finished_fold_is_preferred_to_an_unfinished_lower_one(source, tmp_path):
    folder = write_trained(source, tmp_path / MODEL, "0", "checkpoint_latest.pth")
    write_trained(source, folder, "1")
    assert read_source_model(folder).fold == "1"
    unfinished = read_source_model(folder, fold=0)
    assert unfinished.checkpoint == "checkpoint_latest.pth"
    assert "checkpoint_latest.pth is taken in its place" in unfinished.notes[0]


def test_only_the_default_checkpoint_is_replaced_by_another(source, tmp_path):
    folder = write_trained(source, tmp_path / MODEL, "0", "checkpoint_best.pth")
    assert read_source_model(folder).checkpoint == "checkpoint_best.pth"
    with pytest.raises(MissingInput, match=r"has no mine.pth; found fold_0: checkpoint_best.pth"):
        read_source_model(folder, checkpoint="mine.pth")
    file = folder / "fold_0" / "checkpoint_best.pth"
    assert read_source_model(file, checkpoint="checkpoint_best.pth").checkpoint == "checkpoint_best.pth"
    with pytest.raises(ActiveError, match=r"is a checkpoint already; leave -chk mine.pth out"):
        read_source_model(file, checkpoint="mine.pth")


def test_several_configurations_ask_for_a_choice(trained):
    write_trained(source_model(name="2d"), trained.parent / "nnUNetTrainer__nnUNetPlans__2d")
    with pytest.raises(MissingInput, match=r"holds several models .*2d.*3d_fullres.*choose the configuration with -c"):
        read_source_model(trained.parent)
    assert read_source_model(trained.parent, "2d").configuration == "2d"
    with pytest.raises(MissingInput, match="no model for the configuration 3d_lowres"):
        read_source_model(trained.parent, "3d_lowres")


def test_another_configuration_than_the_trained_one_is_refused(trained):
    with pytest.raises(MissingInput, match="was trained for the configuration 3d_fullres, not 2d"):
        read_source_model(trained, "2d")


def test_a_cascades_second_stage_is_refused(source, tmp_path):
    planned = plans(("3d_lowres",))
    planned["configurations"]["3d_cascade_fullres"] = {"inherits_from": "3d_lowres", "previous_stage": "3d_lowres"}
    second = replace(source, plans=planned, configuration="3d_cascade_fullres")
    with pytest.raises(IncompatibleSource, match="second stage of a cascade"):
        read_source_model(write_trained(second, tmp_path / "nnUNetTrainer__nnUNetPlans__3d_cascade_fullres"))


@pytest.mark.parametrize("name", ["plans.json", "dataset.json"])
def test_a_missing_or_broken_description_is_named(trained, name):
    (trained / name).write_text("{")
    with pytest.raises(ActiveError, match=rf"{name} is not valid JSON"):
        read_source_model(trained)
    (trained / name).unlink()
    with pytest.raises(MissingInput, match=rf"{name} was not found"):
        read_source_model(trained)


def test_what_is_no_model_is_named(tmp_path):
    with pytest.raises(MissingInput, match="nowhere was not found"):
        read_source_model(tmp_path / "nowhere")
    with pytest.raises(MissingInput, match="No trained model was found"):
        read_source_model(tmp_path)
    (tmp_path / "plans.json").write_text(json.dumps(plans()))
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(MissingInput, match="no fold_X folder with a checkpoint"):
        read_source_model(tmp_path)


def test_a_missing_fingerprint_is_no_problem(trained):
    (trained / "dataset_fingerprint.json").unlink()
    assert read_source_model(trained).fingerprint is None


@pytest.mark.data
@torch.no_grad()
@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("Dataset003_HippocampusSource", "3d_fullres"),
        ("Dataset201_CardiacCine", "2d"),
        ("Dataset203_GliomaSource", "3d_fullres"),
    ],
)
def test_real_models_are_read_without_trusting_them_and_predict_as_in_nnunet(test_data, dataset, name):
    folder = test_data / "models" / dataset
    source = read_source_model(folder, name)
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder / f"nnUNetTrainer__nnUNetPlans__{name}"), (0,))
    network = build_network(source.plans, name, source.dataset_json).eval()
    network.load_state_dict(source.weights)
    configured = source.plans["configurations"][name]
    x = torch.randn(1, len(configured["normalization_schemes"]), *configured["patch_size"])
    assert torch.equal(network(x), predictor.network.eval()(x))


def test_the_network_kept_beside_the_plans_comes_first(tmp_path):
    kept, own = source_model(seed=1), source_model(seed=2)
    save_source_model(kept, source_folder(tmp_path / "Dataset009_A", "nnUNetPlans", "3d_fullres"))
    write_trained(own, tmp_path / "results" / "Dataset009_A" / "nnUNetTrainer__nnUNetPlans__3d_fullres")
    found = find_source(tmp_path / "Dataset009_A", "nnUNetPlans", "3d_fullres", "0", tmp_path / "results")
    assert all((found.weights[key] == value).all() for key, value in kept.weights.items())


def test_else_the_users_own_stock_training_of_that_fold_is_taken(tmp_path):
    own = tmp_path / "results" / "Dataset009_A" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    write_trained(source_model(seed=1), own, fold="0")
    write_trained(source_model(seed=2), own, fold="1")
    found = find_source(tmp_path / "Dataset009_A", "nnUNetPlans", "3d_fullres", "1", tmp_path / "results")
    assert found.fold == "1"


def test_a_missing_source_names_the_commands_that_give_one(tmp_path):
    with pytest.raises(MissingInput, match=r"nnunet_active plan -d Dataset009_A .* nnunet_active init"):
        find_source(tmp_path / "Dataset009_A", "nnUNetPlans", "3d_fullres", "0", tmp_path)


def test_labels_of_the_source_that_cannot_be_used_are_named_as_the_sources(tmp_path):
    folder = write_trained(source_model(), tmp_path / MODEL)
    described = json.loads((folder / "dataset.json").read_text())
    described["labels"] = {str(value): name for name, value in described["labels"].items()}
    (folder / "dataset.json").write_text(json.dumps(described))
    with pytest.raises(MissingInput, match=r"dataset\.json of the source model cannot be used: .*the wrong way round"):
        read_source_model(folder)


@pytest.mark.parametrize(("written", "read"), [((0, 1), (0, 1)), (None, ()), ("absent", None)])
def test_a_source_that_was_never_mirrored_is_told_from_one_that_does_not_say(source, tmp_path, written, read):
    folder = write_trained(source, tmp_path / MODEL, inference_allowed_mirroring_axes=written)
    if written == "absent":
        file = folder / "fold_0" / "checkpoint_final.pth"
        content = torch.load(file, weights_only=False)
        del content["inference_allowed_mirroring_axes"]
        torch.save(content, file)
    found = read_source_model(folder)
    assert found.mirror_axes == read
    save_source_model(found, tmp_path / "kept")
    assert read_source_model(tmp_path / "kept").mirror_axes == read
