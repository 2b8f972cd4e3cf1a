from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from full_disk import files_up_to
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from tiny_source import GLIOMA, dataset_json, random_network, source_model, write_trained

from nnunet_active.models.model_export import export_model, export_source, exported_trainer
from nnunet_active.nnunet.nnunet_paths import results_root
from nnunet_active.util.atomic import temporary_name
from nnunet_active.util.errors import ActiveError, IncompatibleSource, MissingInput

DATASET = "Dataset901_Target"
NAME = "nnUNetTrainer__nnUNetActivePlans__3d_fullres"


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    monkeypatch.delenv("nnUNet_extTrainer", raising=False)
    return tmp_path / "results"


def train(results, fold="0", source=None, **changes):
    """What a trainer of another package would leave: its own name, machine paths in dataset.json, optimizer state."""
    source = source or source_model(dataset={"p1": {"images": ["/home/somebody/p1_0000.nii.gz"], "label": "x"}})
    folder = results / DATASET / "nnUNetTrainerSomebodys__nnUNetActivePlans__3d_fullres"
    return source, write_trained(source, folder, fold, **{"trainer_name": "nnUNetTrainerSomebodys", **changes})


def export(output, folds=("0",)):
    trained = results_root() / DATASET / "nnUNetTrainerSomebodys__nnUNetActivePlans__3d_fullres"
    return export_model(trained, folds, output)


@torch.no_grad()
def test_the_export_is_read_by_nnunets_predictor_without_any_external_trainer(results, tmp_path):
    source, _ = train(results)
    written = export(tmp_path / "out")
    assert written == tmp_path / "out" / NAME and "nnUNet_extTrainer" not in os.environ
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(written), None)
    assert (predictor.trainer_name, predictor.allowed_mirroring_axes) == ("nnUNetTrainer", (0, 1, 2))
    x = torch.randn(1, 3, 16, 16, 16)
    expected = random_network(source.plans, "3d_fullres", source.dataset_json)(x)
    assert torch.equal(predictor.network.eval()(x), expected)


def test_a_model_of_partly_labelled_cases_predicts_every_label_and_never_the_ignore_value(results, tmp_path):
    labels = {"background": 0, "oedema": 1, "core": 2, "ignore": 3}
    train(results, source=source_model(labels=labels))
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(export(tmp_path / "out")), None)
    assert predictor.dataset_json["labels"] == labels
    image = np.random.default_rng(0).normal(size=(3, 16, 16, 16)).astype(np.float32)
    found = predictor.predict_single_npy_array(image, {"spacing": [1.0, 1.0, 1.0]})
    assert found.shape == image.shape[1:] and set(np.unique(found)) <= {0, 1, 2}


def test_plans_may_have_two_underscores_in_their_name_as_those_of_nnunets_fine_tuning(results, tmp_path):
    plans = "ptPlans__mine____Spacing__1.00_1.00_1.00___Norm__Z"
    trained = write_trained(source_model(), results / DATASET / f"nnUNetTrainer__{plans}__3d_fullres")
    assert export_model(trained, ["0"], tmp_path / "out").name == f"nnUNetTrainer__{plans}__3d_fullres"


def test_the_export_holds_no_optimizer_state_no_log_and_no_path(results, tmp_path):
    train(results)
    written = export(tmp_path / "out")
    content = torch.load(written / "fold_0" / "checkpoint_final.pth", weights_only=True)
    known = {"network_weights", "init_args", "trainer_name", "inference_allowed_mirroring_axes"}
    assert set(content) == {*known, "written_by"}
    texts = [json.dumps(content["init_args"]), *(file.read_text() for file in written.glob("*.json"))]
    assert not any("somebody" in text or str(tmp_path) in text for text in texts)
    assert sorted(file.name for file in written.iterdir()) == [
        "dataset.json",
        "dataset_fingerprint.json",
        "fold_0",
        "plans.json",
    ]


def test_the_zip_has_the_layout_that_nnunet_installs(results, tmp_path):
    train(results)
    train(results, "1", source_model(seed=1))
    written = export(tmp_path / "model.zip", ("0", "1"))
    with zipfile.ZipFile(written) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "other_results")  # all that install_model_from_zip_file does
    root = f"{DATASET}/{NAME}"
    assert names == sorted(
        f"{root}/{name}"
        for name in (
            "plans.json",
            "dataset.json",
            "dataset_fingerprint.json",
            "fold_0/checkpoint_final.pth",
            "fold_1/checkpoint_final.pth",
        )
    )
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(tmp_path / "other_results" / root), None)
    assert len(predictor.list_of_parameters) == 2


def test_folds_are_added_to_an_export_of_the_same_model_and_refused_for_another(results, tmp_path):
    source, _ = train(results)
    export(tmp_path / "out")
    train(results, "all", source)
    export(tmp_path / "out", ("all",))
    assert (tmp_path / "out" / NAME / "fold_0").is_dir() and (tmp_path / "out" / NAME / "fold_all").is_dir()
    other = source_model()
    other.plans["configurations"]["3d_fullres"]["batch_size"] = 9
    train(results, "2", other)
    with pytest.raises(ActiveError, match="holds a model with other plans"):
        export(tmp_path / "out", ("2",))


def test_a_network_that_stock_nnunet_cannot_build_is_not_exported(results, tmp_path):
    source = source_model()
    weights = {**source.weights, "extra.weight": torch.ones(3)}
    train(results, source=source, network_weights=weights)
    with pytest.raises(IncompatibleSource, match="differs from that of nnUNetTrainer"):
        export(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_not_there_is_named(results, tmp_path):
    with pytest.raises(MissingInput, match="nnUNetTrainerSomebodys__nnUNetActivePlans__3d_fullres was not found"):
        export(tmp_path / "out")
    train(results)
    with pytest.raises(MissingInput, match="no checkpoint for fold 3"):
        export(tmp_path / "out", ("0", "3"))
    assert not (tmp_path / "out").exists()


def test_a_stopped_training_is_exported_only_if_its_checkpoint_is_named(results, tmp_path):
    _, folder = train(results)
    final = next(folder.rglob("checkpoint_final.pth")) if folder.is_dir() else folder
    final.rename(final.with_name("checkpoint_latest.pth"))
    with pytest.raises(MissingInput, match=r"fold_0 has no checkpoint_final.pth: .* -chk checkpoint_latest.pth"):
        export(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    written = export_model(final.parents[1], ["0"], tmp_path / "out", "checkpoint_latest.pth")
    assert (written / "fold_0" / "checkpoint_final.pth").is_file()


@pytest.mark.parametrize("output", ["out", "model.zip"])
def test_the_stock_trainer_that_an_export_is_named_after_is_known(results, tmp_path, output):
    train(results, trainer_name="nnUNetTrainerNoMirroring")
    assert exported_trainer(export(tmp_path / output)) == "nnUNetTrainerNoMirroring"


@pytest.mark.stock
def test_the_stock_commands_install_and_predict_with_the_zip(results, tmp_path):
    train(results)
    file = export(tmp_path / "model.zip")
    images = tmp_path / "images"
    images.mkdir()
    for channel in range(3):
        array = np.random.default_rng(channel).normal(0, 1, (18, 20, 22)).astype(np.float32)
        sitk.WriteImage(sitk.GetImageFromArray(array), images / f"case_{channel:04d}.nii.gz")
    environment = {key: value for key, value in os.environ.items() if key != "nnUNet_extTrainer"}
    environment |= {f"nnUNet_{name}": str(tmp_path / "elsewhere") for name in ("raw", "preprocessed", "results")}
    (tmp_path / "elsewhere").mkdir()

    def stock(function: str, *argv: object) -> None:
        module, _, name = function.rpartition(".")
        code = f"import sys; from {module} import {name}; sys.argv[0] = '{name}'; {name}()"
        command = [sys.executable, "-c", code, *map(str, argv)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr

    stock("nnunetv2.model_sharing.entry_points.install_from_zip_entry_point", file)
    target = ["-d", 901, "-c", "3d_fullres", "-p", "nnUNetActivePlans", "-f", 0, "-device", "cpu", "--disable_tta"]
    arguments = ["-i", images, "-o", tmp_path / "out", *target, "-npp", 1, "-nps", 1]
    stock("nnunetv2.inference.predict_from_raw_data.predict_entry_point", *arguments)
    assert sitk.ReadImage(tmp_path / "out" / "case.nii.gz").GetSize() == (22, 20, 18)


@torch.no_grad()
def test_the_source_is_exported_with_the_targets_channels_and_predicts_there_as_it_did(tmp_path):
    source = source_model()
    channels = ("T2", *GLIOMA)  # one more than the source has
    target = {**source.plans, "plans_name": "nnUNetActivePlans", "dataset_name": DATASET}
    described = dataset_json(channels, dataset={"p": {"images": ["/home/somebody/p.nii.gz"]}})
    written, report = export_source(source, target, described, tmp_path / "out")
    assert written.name == "nnUNetTrainer__nnUNetActivePlans_source__3d_fullres" and report.lines()
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(written), None)
    x = torch.randn(1, len(GLIOMA), 16, 16, 16)
    expected = random_network(source.plans, "3d_fullres", source.dataset_json)(x)
    found = predictor.network.eval()(torch.cat([torch.randn_like(x[:, :1]), x], dim=1))
    torch.testing.assert_close(found, expected)
    assert not any("somebody" in file.read_text() for file in written.glob("*.json"))
    packed, _ = export_source(source, target, described, tmp_path / "source.zip")
    with zipfile.ZipFile(packed) as archive:
        assert f"{DATASET}/{written.name}/plans.json" in archive.namelist()


@pytest.mark.parametrize("output", ["out", "out.zip"])
def test_an_export_that_a_full_disk_stopped_leaves_no_file_and_is_made_once_there_is_room(results, tmp_path, output):
    train(results)
    with files_up_to(5000), pytest.raises(OSError, match="No space left"):
        export(tmp_path / output)
    assert not [file for file in [*tmp_path.glob("*.zip"), *(tmp_path / "out").rglob("*")] if file.is_file()]
    left = tmp_path / "out" / NAME / "fold_0" / _left_by_a_killed_process("checkpoint_final.pth")
    if output == "out":
        left.write_bytes(b"half of")
    assert export(tmp_path / output).exists() and not left.exists()


def _left_by_a_killed_process(name: str) -> str:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return temporary_name(Path(name)).name.replace(f"-{os.getpid()}-", f"-{ended.pid}-")


def test_a_model_or_a_zip_of_somebody_else_is_never_replaced(results, tmp_path):
    train(results)
    written = export(tmp_path / "out")
    assert export(tmp_path / "out") == written  # its own output is
    checkpoint = written / "fold_0" / "checkpoint_final.pth"
    content = torch.load(checkpoint, weights_only=True)
    del content["written_by"]
    torch.save(content, checkpoint)
    before = checkpoint.read_bytes()
    with pytest.raises(ActiveError, match=r"checkpoint_final\.pth is there and is not an exported model"):
        export(tmp_path / "out")
    assert checkpoint.read_bytes() == before
    archive = tmp_path / "thesis.zip"
    archive.write_bytes(b"not a model")
    with pytest.raises(ActiveError, match=r"thesis\.zip is there and is not an exported model"):
        export(archive)
    assert archive.read_bytes() == b"not a model"
    archive.unlink()
    export(archive)
    export(archive)


def test_nothing_is_written_into_a_folder_that_somebody_else_filled(results, tmp_path):
    source, _ = train(results)
    theirs = tmp_path / "out" / NAME
    write_trained(source, theirs, "1")  # the same plans, another fold
    (theirs / "fold_0").mkdir()
    (theirs / "fold_0" / "checkpoint_best.pth").write_bytes(b"theirs")
    before = {file: file.read_bytes() for file in theirs.rglob("*") if file.is_file()}
    with pytest.raises(ActiveError, match="is not an exported model of nnunet_active, so nothing is written into it"):
        export(tmp_path / "out")
    assert {file: file.read_bytes() for file in theirs.rglob("*") if file.is_file()} == before
