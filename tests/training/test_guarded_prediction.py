from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import torch
from full_disk import files_up_to
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from tiny_source import source_model, write_trained
from tiny_target import NAME, PLANS, Target, make_target
from tiny_training import fresh_target, start, trainer_of

from nnunet_active.campaign.settings import Settings
from nnunet_active.cli.main import main
from nnunet_active.models.source_model import read_source_model
from nnunet_active.nnunet.guarded_predictor import GuardedPredictor
from nnunet_active.nnunet.networks import build_network
from nnunet_active.nnunet.safe_checkpoint import weights_digest
from nnunet_active.scoring import collapse
from nnunet_active.training.comparison_table import KEPT_SOURCE
from nnunet_active.training.weights import interpolate, live_weights

CASES = ["case_0", "case_1", "case_2"]
TRAINER = Settings().trainer


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Target:
    root = tmp_path_factory.mktemp("predict")
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            (root / variable).mkdir()
            patch.setenv(variable, str(root / variable))
        return make_target(root, labelled=1, unlabelled=2)


@pytest.fixture(autouse=True)
def folders(tiny, monkeypatch) -> None:
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, str(tiny.root / variable))


def adapted_weights(source: dict, lost: bool) -> dict:
    """A little beside the source; ``lost``: all but background is gone."""
    weights = {name: tensor * 1.01 for name, tensor in source.items()}
    for name in [name for name in weights if "seg_layers" in name and name.endswith("bias") and lost]:
        weights[name] = torch.tensor([30.0, 0.0, 0.0])
    return weights


def train(tiny: Target, folder: Path, weights: dict, trainer: str = TRAINER, **changes) -> Path:
    """A model folder with these weights."""
    kept = tiny.preprocessed / "active" / "source" / f"{PLANS}__{tiny.configuration}"
    source = read_source_model(kept, tiny.configuration)
    plans = json.loads((tiny.preprocessed / f"{PLANS}.json").read_text())
    model = source_model()
    object.__setattr__(model, "plans", plans)
    object.__setattr__(model, "weights", weights or source.weights)
    return write_trained(model, folder / f"{trainer}__{PLANS}__{tiny.configuration}", **changes)


def source_weights(tiny: Target) -> dict:
    return read_source_model(tiny.model).weights


def stock(model: Path, images: Path, output: Path, folds: Sequence[str] = ("0",)) -> Path:
    """What nnUNetv2_predict does, without further processes."""
    output.mkdir()
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), tuple(folds))
    predictor.predict_from_files_sequential(str(images), str(output), save_probabilities=True)
    return output


def predict(tiny: Target, output: Path, *flags: str, processes: str = "0", probabilities: bool = True) -> int:
    where = [
        "-i",
        str(tiny.raw / "imagesTr"),
        "-o",
        str(output),
        "-d",
        "902",
        "-c",
        tiny.configuration,
        "-device",
        "cpu",
    ]
    how = ["-npp", processes, "-nps", processes, "--disable_progress_bar"]
    how += ["--save_probabilities"] if probabilities else []
    return main(["predict", *where, *how, *flags])


def label_map(folder: Path, case: str) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(folder / f"{case}.nii.gz"))


def assert_same_files(ours: Path, theirs: Path) -> None:
    names = {file.name for file in theirs.iterdir()}
    assert {file.name for file in ours.iterdir()} == names | {"guard.csv"}
    for name in names - {"predict_from_raw_data_args.json"}:
        if not name.endswith(".pkl"):
            assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
    one, other = (json.loads((folder / "predict_from_raw_data_args.json").read_text()) for folder in (ours, theirs))
    output = "output_folder_or_list_of_truncated_output_files"
    assert one.pop(output) == str(ours) and other.pop(output) == str(theirs) and one == other


def test_where_no_class_collapses_every_file_is_that_of_nnunetv2_predict(tiny, tmp_path, capsys):
    weights = adapted_weights(source_weights(tiny), lost=False)
    model = train(tiny, tiny.results / NAME, weights, nnunet_active={"labelled": ["case_0"]})
    assert predict(tiny, tmp_path / "ours") == 0
    assert_same_files(tmp_path / "ours", stock(model, tiny.raw / "imagesTr", tmp_path / "stock"))
    with np.load(tmp_path / "ours" / "case_0.npz") as content:
        assert content["probabilities"].std((1, 2, 3)).max() > 0.005, "a constant prediction would equal too much"
    table = pd.read_csv(tmp_path / "ours" / "guard.csv")
    assert table["case"].unique().tolist() == CASES and not table["collapsed"].any()
    assert (table["source_voxels"] > 0).any() and "no class collapsed in 3 cases" in capsys.readouterr().out


@pytest.mark.parametrize("processes", ["0", "1"])
def test_a_case_whose_class_collapsed_is_predicted_nearer_to_the_source(tiny, tmp_path, capsys, monkeypatch, processes):
    monkeypatch.setattr(collapse, "SURE", 0.0)
    before = source_weights(tiny)
    lost = adapted_weights(before, lost=True)
    train(tiny, tiny.results / NAME, lost, nnunet_active={"labelled": ["case_0"]})
    nearer = train(tiny, tmp_path / "nearer", interpolate(before, lost, 0.25))
    assert predict(tiny, tmp_path / "ours", processes=processes) == 0
    table = pd.read_csv(tmp_path / "ours" / "guard.csv")
    assert table["adapted_voxels"].tolist() == [0] * len(table)
    touched = table[table["collapsed"]]["case"].unique().tolist()
    assert touched == CASES  # a random source predicts something everywhere
    theirs = stock(nearer, tiny.raw / "imagesTr", tmp_path / "stock")
    for case in CASES:
        np.testing.assert_array_equal(label_map(tmp_path / "ours", case), label_map(theirs, case))
    assert "in 3 of 3 cases a class collapsed" in capsys.readouterr().out


def test_an_interrupted_prediction_goes_on(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(collapse, "SURE", 0.0)
    train(tiny, tiny.results / NAME, adapted_weights(source_weights(tiny), True), nnunet_active={"labelled": []})
    output = tmp_path / "ours"
    assert predict(tiny, output) == 0
    kept = label_map(output, "case_0")
    whole = (output / "guard.csv").read_text()
    (output / "case_1.nii.gz").unlink()
    pd.read_csv(output / "guard.csv").query("case != 'case_1'").to_csv(output / "guard.csv", index=False)
    written = (output / "case_0.nii.gz").stat().st_mtime_ns
    assert predict(tiny, output, "--continue_prediction") == 0
    assert (output / "case_0.nii.gz").stat().st_mtime_ns == written and (label_map(output, "case_0") == kept).all()
    assert sorted((output / "guard.csv").read_text().splitlines()) == sorted(whole.splitlines())


def test_a_prediction_that_a_kill_cut_short_is_made_again(tiny, tmp_path, capsys):
    train(tiny, tiny.results / NAME, adapted_weights(source_weights(tiny), True), nnunet_active={"labelled": []})
    output = tmp_path / "ours"
    assert predict(tiny, output) == 0
    whole = label_map(output, "case_0")
    (output / "case_0.nii.gz").write_bytes((output / "case_0.nii.gz").read_bytes()[:100])
    assert predict(tiny, output, "--continue_prediction") == 0
    np.testing.assert_array_equal(label_map(output, "case_0"), whole)
    assert f"{output / 'case_0.nii.gz'} was cut short" in capsys.readouterr().out


def test_a_model_near_to_its_source_is_predicted_by_the_stock_pass_alone(tiny, tmp_path, capsys):
    details = {"labelled": ["case_0"], "interpolation": 0.25}
    train(tiny, tiny.results / NAME, adapted_weights(source_weights(tiny), True), nnunet_active=details)
    (tmp_path / "ours").mkdir()
    for file in "predict_from_raw_data_args.json", "guard.csv":  # of a model that was predicted with before
        (tmp_path / "ours" / file).write_text("{}")
    assert predict(tiny, tmp_path / "ours") == 0
    assert "there was nothing to do. This model predicts by weights 25% of the way" in capsys.readouterr().out
    assert (tmp_path / "ours" / "case_0.nii.gz").is_file() and not (tmp_path / "ours" / "guard.csv").exists()


def test_a_model_that_kept_the_source_is_said_to_predict_like_it(tiny, tmp_path, capsys):
    train(tiny, tiny.results / NAME, {}, nnunet_active={"labelled": ["case_0"], "interpolation": 0.0})
    assert predict(tiny, tmp_path / "ours") == 0
    assert f"Guard: there was nothing to do. {KEPT_SOURCE}" in capsys.readouterr().out


@pytest.mark.parametrize("processes", ["0", "1"])
def test_parts_come_to_the_same_files_and_each_has_its_table(tiny, tmp_path, processes, capsys):
    train(tiny, tiny.results / NAME, adapted_weights(source_weights(tiny), False), nnunet_active={"labelled": []})
    assert predict(tiny, tmp_path / "whole", processes=processes) == 0
    output, tables = tmp_path / "parts", []
    for part, cases in ("1", ["case_1"]), ("0", ["case_0", "case_2"]), ("3", []):
        given = ["-num_parts", "4" if part == "3" else "2", "-part_id", part]
        before = {file.name for file in output.glob("*.nii.gz")}
        assert predict(tiny, output, *given, processes=processes) == 0
        assert {file.name for file in output.glob("*.nii.gz")} - before == {f"{case}.nii.gz" for case in cases}
        assert f"in {len(cases)} cases" in capsys.readouterr().out
        tables += [pd.read_csv(output / f"guard_part_{part}_of_2.csv")] if cases else []
    whole = pd.read_csv(tmp_path / "whole" / "guard.csv")
    found = pd.concat(tables).sort_values("case", kind="stable", ignore_index=True)
    pd.testing.assert_frame_equal(found, whole)
    for case in CASES:
        name = f"{case}.nii.gz"
        assert (output / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("folds", [["0", "1"], ["all"]])
def test_the_folds_that_are_named_are_averaged_as_nnunetv2_predict_does_it(tiny, tmp_path, folds):
    for fold in folds:
        weights = {name: tensor * (1.02 if fold == "1" else 0.99) for name, tensor in source_weights(tiny).items()}
        model = train(tiny, tiny.results / NAME, weights, fold=fold, nnunet_active={"labelled": ["case_0"]})
    assert predict(tiny, tmp_path / "ours", "-f", *folds) == 0
    assert not pd.read_csv(tmp_path / "ours" / "guard.csv")["collapsed"].any()
    assert_same_files(tmp_path / "ours", stock(model, tiny.raw / "imagesTr", tmp_path / "stock", folds))


def test_what_cannot_be_guarded_is_one_sentence_and_nothing_is_written(tiny, tmp_path, capsys):
    output = tmp_path / "ours"
    train(tiny, tiny.results / NAME, {}, trainer="nnUNetTrainer")
    assert predict(tiny, output, "-tr", "nnUNetTrainer") == 2
    assert "predict with nnUNetv2_predict" in capsys.readouterr().err
    train(tiny, tiny.results / NAME, {}, nnunet_active={"labelled": ["case_0"]})
    assert predict(tiny, output, "-f", "3") == 2
    assert "fold_3" in capsys.readouterr().err
    assert predict(tiny, output, "-i", str(tmp_path)) == 2
    assert "holds no image" in capsys.readouterr().err
    assert predict(tiny, output, "-i", str(tmp_path / "nowhere")) == 2
    assert "was not found" in capsys.readouterr().err
    shutil.copytree(tiny.raw / "imagesTr", tmp_path / "images")
    (tmp_path / "images" / "mask.nii.gz").write_bytes(b"")
    assert predict(tiny, output, "-i", str(tmp_path / "images")) == 2
    assert "mask.nii.gz has no channel number" in capsys.readouterr().err
    assert predict(tiny, output, "-i", str(tiny.raw / "dataset.json")) == 2
    assert "dataset.json is a file" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize("interpolation", [1.0, 0.25])
@pytest.mark.parametrize("processes", ["0", "1"])
def test_a_damaged_image_is_named_and_set_aside_and_the_others_are_predicted(
    tiny, tmp_path, capsys, processes, interpolation
):
    details = {"labelled": ["case_0"], "interpolation": interpolation}
    train(tiny, tiny.results / NAME, adapted_weights(source_weights(tiny), False), nnunet_active=details)
    file = tiny.results / NAME / f"{TRAINER}__{PLANS}__{tiny.configuration}" / "dataset.json"
    older = json.loads(file.read_text())
    older["modality"] = older.pop("channel_names")  # the key of older data sets
    file.write_text(json.dumps(older))
    images, output = shutil.copytree(tiny.raw / "imagesTr", tmp_path / "images"), tmp_path / "ours"
    whole = (images / "case_0_0000.nii.gz").read_bytes()
    (images / "case_0_0000.nii.gz").write_bytes(whole[: len(whole) // 2])  # ITK would fill it up with zeros
    (images / "case_1_0000.nii.gz").write_bytes(b"no image")  # nnU-Net's workers would die of it
    assert predict(tiny, output, "-i", str(images), processes=processes) == 1
    said = capsys.readouterr().out
    assert "case_0_0000.nii.gz cannot be read" in said and "case_1_0000.nii.gz cannot be read" in said
    assert "nothing is predicted of: case_0, case_1." in said
    assert [file.name for file in output.glob("*.nii.gz")] == ["case_2.nii.gz"]
    if interpolation == 1.0:
        assert pd.read_csv(output / "guard.csv")["case"].unique().tolist() == ["case_2"]


def test_no_label_is_ever_replaced(tiny, capsys):
    train(tiny, tiny.results / NAME, {}, nnunet_active={"labelled": ["case_0"]})
    labels = tiny.raw / "labelsTr"
    before = (labels / "case_0.nii.gz").read_bytes()
    assert predict(tiny, labels) == 2
    assert "nothing is written there" in capsys.readouterr().err
    assert (labels / "case_0.nii.gz").read_bytes() == before and len([*labels.iterdir()]) == 1


@pytest.mark.parametrize("flags", [(), ("--continue_prediction",)])
def test_no_description_of_another_data_set_is_ever_replaced(tiny, tmp_path, capsys, flags):
    train(tiny, tiny.results / NAME, {}, nnunet_active={"labelled": ["case_0"]})
    (tmp_path / "dataset.json").write_text("{}")
    assert predict(tiny, tmp_path, *flags) == 2
    assert "dataset.json" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["dataset.json"]


def test_a_model_that_was_trained_from_another_source_is_not_guarded_by_the_one_that_is_there(tiny, tmp_path, capsys):
    here = source_weights(tiny)
    weights = adapted_weights(here, lost=False)
    network = build_network(
        json.loads((tiny.preprocessed / f"{PLANS}.json").read_text()), tiny.configuration, tiny_json(tiny)
    )
    network.load_state_dict(here)
    for source, code in ((weights_digest(live_weights(network)), 0), ("another", 2)):
        train(tiny, tiny.results / NAME, weights, nnunet_active={"labelled": ["case_0"], "source": source})
        assert predict(tiny, tmp_path / source) == code
    assert "was not adapted from the source network" in capsys.readouterr().err


def tiny_json(tiny: Target) -> dict:
    return json.loads((tiny.raw / "dataset.json").read_text())


def test_it_predicts_with_what_our_trainer_saved(tmp_path, monkeypatch, capsys):
    target = fresh_target(tmp_path / "trained", monkeypatch)
    start(target, epochs=2, fine_tuning={"interpolation": 0.75, "ema_epochs": 2.0})
    trainer_of(target).run_training()
    assert predict(target, tmp_path / "ours", "-tr", "nnUNetTrainerMmActS") == 0
    assert "Guard:" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "ours" / "guard.csv")
    assert table["case"].nunique() == len([*(target.raw / "imagesTr").glob("*_0000.nii.gz")])


@contextlib.contextmanager
def disk_that_is_full_once_a_case_is_predicted(monkeypatch, size: int) -> Iterator[None]:
    predict_case = GuardedPredictor.predict_logits_from_preprocessed_data
    with contextlib.ExitStack() as full, monkeypatch.context() as patch:

        def fill_the_disk(*given):
            found = predict_case(*given)
            full.enter_context(files_up_to(size))
            return found

        patch.setattr(GuardedPredictor, "predict_logits_from_preprocessed_data", fill_the_disk)
        yield


def test_a_prediction_that_a_full_disk_cuts_short_is_removed_and_named_and_made_once_there_is_room(
    tmp_path, capsys, monkeypatch
):
    target, output = fresh_target(tmp_path / "full", monkeypatch, labelled=1, unlabelled=2), tmp_path / "out"
    train(target, target.results / NAME, {}, nnunet_active={"labelled": ["case_0"], "interpolation": 0.1})
    with disk_that_is_full_once_a_case_is_predicted(monkeypatch, 5000):
        assert predict(target, output) == 1
    assert capsys.readouterr().err.startswith(f"nnunet_active predict: {output}: File too large; ")
    assert not list(output.glob("case_*"))
    with disk_that_is_full_once_a_case_is_predicted(monkeypatch, 60):
        assert predict(target, output, probabilities=False) == 1
    said, err = capsys.readouterr()
    assert err == ""
    for case in CASES:
        assert f"Case {case}: the prediction {output / case}.nii.gz could not be written whole" in said
    assert not list(output.glob("*.nii.gz"))
    assert predict(target, output, "--continue_prediction", probabilities=False) == 0
    assert {file.name for file in output.glob("*.nii.gz")} == {f"{case}.nii.gz" for case in CASES}
