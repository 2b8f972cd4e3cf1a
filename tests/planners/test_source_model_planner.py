from __future__ import annotations

import argparse
import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from tiny_source import GLIOMA, dataset_json, source_model, write_trained

from nnunet_active.cli import plan as plan_command
from nnunet_active.data.ignore_label import declare_ignore_label
from nnunet_active.models.source_model import carry_over, read_source_model, source_folder
from nnunet_active.nnunet.networks import build_network
from nnunet_active.planners.source_model_planner import SourceModelPlanner
from nnunet_active.util.errors import ActiveError, IncompatibleSource, MissingInput

NAME = "Dataset901_Target"


def make_raw(root, channels=GLIOMA, labels=None, cases=("a", "b"), shape=(10, 12, 14), **more):
    raw = root / "raw" / NAME
    (raw / "imagesTr").mkdir(parents=True)
    (raw / "labelsTr").mkdir()
    for case in cases:
        for channel in range(len(channels)):
            array = np.random.default_rng(channel).normal(100, 20, shape).astype(np.float32)
            sitk.WriteImage(sitk.GetImageFromArray(array), raw / "imagesTr" / f"{case}_{channel:04d}.nii.gz")
    (raw / "dataset.json").write_text(json.dumps(dataset_json(channels, labels, **more)))
    return raw


def planner(root, raw, source, **kwargs):
    return SourceModelPlanner(raw, source, preprocessed_dataset_folder=root / "preprocessed" / NAME, **kwargs)


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} if folder.exists() else {}


def test_the_plans_take_the_network_from_the_source_and_the_files_from_the_target(tmp_path):
    source = source_model()
    plans = planner(tmp_path, make_raw(tmp_path), source).plan()
    mine, theirs = plans["configurations"]["3d_fullres"], source.plans["configurations"]["3d_fullres"]
    assert {**mine, "data_identifier": ""} == {**theirs, "data_identifier": ""}
    assert mine["data_identifier"] == "nnUNetActivePlans_3d_fullres"
    assert (plans["dataset_name"], plans["plans_name"]) == (NAME, "nnUNetActivePlans")
    assert plans["image_reader_writer"] == "SimpleITKIO"
    key = "foreground_intensity_properties_per_channel"
    assert plans[key] == source.plans[key]
    assert not (tmp_path / "preprocessed").exists()


def test_what_is_written_serves_nnunet(tmp_path):
    source = source_model()
    raw = make_raw(tmp_path, channels=("T2", "FLAIR"))
    file = planner(tmp_path, raw, source).write()
    folder = file.parent
    assert json.loads((folder / "dataset.json").read_text()) == json.loads((raw / "dataset.json").read_text())
    assert json.loads((folder / "dataset_fingerprint.json").read_text()) == source.fingerprint
    manager = PlansManager(str(file))
    configured = manager.get_configuration("3d_fullres")
    images = [str(raw / "imagesTr" / f"a_{channel:04d}.nii.gz") for channel in range(2)]
    data, _, _ = DefaultPreprocessor(verbose=False).run_case(
        images, None, manager, configured, dataset_json(("T2", "x"))
    )
    assert data.shape == (2, 7, 8, 9) and abs(float(data.mean())) < 0.1  # 1 mm to the source's 1.5 mm
    kept = read_source_model(source_folder(folder, "nnUNetActivePlans", "3d_fullres"))
    network = build_network(manager.plans, "3d_fullres", json.loads((raw / "dataset.json").read_text()))
    assert carry_over(network, kept, manager.plans, dataset_json(("T2", "FLAIR"))).head_trained


def test_planning_again_changes_nothing_and_a_second_configuration_is_added(tmp_path):
    raw = make_raw(tmp_path)
    planner(tmp_path, raw, source_model()).write()
    folder = tmp_path / "preprocessed"
    checkpoint = source_folder(folder / NAME, "nnUNetActivePlans", "3d_fullres") / "fold_0" / "checkpoint_final.pth"
    before, inode = snapshot(folder), checkpoint.stat().st_ino
    planner(tmp_path, raw, source_model()).write()
    assert snapshot(folder) == before and checkpoint.stat().st_ino == inode
    plans = json.loads(planner(tmp_path, raw, source_model(name="2d")).write().read_text())
    assert list(plans["configurations"]) == ["3d_fullres", "2d"] == list(plans["source_models"])
    assert (
        plans["configurations"]["3d_fullres"]
        == json.loads(before[folder / NAME / "nnUNetActivePlans.json"])["configurations"]["3d_fullres"]
    )


def test_another_source_for_the_same_configuration_takes_its_place(tmp_path):
    raw = make_raw(tmp_path)
    planner(tmp_path, raw, source_model()).write()
    other = source_model(seed=5)
    plans = json.loads(planner(tmp_path, raw, replace(other, fold="2")).write().read_text())
    kept = read_source_model(source_folder(tmp_path / "preprocessed" / NAME, "nnUNetActivePlans", "3d_fullres"))
    assert kept.fold == "2" and kept.folds_found == ("2",) and plans["source_models"]["3d_fullres"]["fold"] == "2"
    assert all(torch.equal(kept.weights[key], value) for key, value in other.weights.items())


def test_sources_that_cannot_share_a_plans_file_are_told_apart_and_nothing_is_written(tmp_path):
    raw = make_raw(tmp_path)
    planner(tmp_path, raw, source_model()).write()
    other = source_model(name="2d")
    other.plans["transpose_forward"] = [1, 0, 2]
    before = snapshot(tmp_path)
    with pytest.raises(ActiveError, match=r"3d_fullres and 2d together: .* differ in transpose_forward.*-plans_name"):
        planner(tmp_path, raw, other).write()
    assert snapshot(tmp_path) == before
    planner(tmp_path, raw, other, plans_name="Other").write()


def test_cases_preprocessed_by_other_plans_are_not_mixed_with_new_ones(tmp_path):
    raw = make_raw(tmp_path)
    planner(tmp_path, raw, source_model()).write()
    pool = tmp_path / "preprocessed" / NAME / "nnUNetActivePlans_3d_fullres_pool"
    pool.mkdir()
    (pool / "a.b2nd").write_bytes(b"x")
    planner(tmp_path, raw, source_model(seed=5)).write()  # other weights, same preprocessing
    other = source_model()
    other.plans["configurations"]["3d_fullres"]["spacing"] = [1.0, 1.0, 1.0]
    before = snapshot(tmp_path)
    with pytest.raises(ActiveError, match=r"preprocessed by other plans .they differ in spacing.; remove"):
        planner(tmp_path, raw, other).write()
    assert snapshot(tmp_path) == before


def test_stock_plans_of_the_same_name_are_never_overwritten(tmp_path):
    raw = make_raw(tmp_path)
    folder = tmp_path / "preprocessed" / NAME
    folder.mkdir(parents=True)
    (folder / "nnUNetPlans.json").write_text(json.dumps({"configurations": {}}))
    with pytest.raises(ActiveError, match="was not made from a source model and stays as it is"):
        planner(tmp_path, raw, source_model(), plans_name="nnUNetPlans").write()


def test_an_existing_fingerprint_stays(tmp_path):
    raw = make_raw(tmp_path)
    fingerprint = tmp_path / "preprocessed" / NAME / "dataset_fingerprint.json"
    fingerprint.parent.mkdir(parents=True)
    fingerprint.write_text("{}")
    planner(tmp_path, raw, source_model()).write()
    assert fingerprint.read_text() == "{}"


def test_a_source_without_a_fingerprint_still_gives_the_file_that_trainers_copy(tmp_path):
    planner(tmp_path, make_raw(tmp_path), replace(source_model(), fingerprint=None)).write()
    written = json.loads((tmp_path / "preprocessed" / NAME / "dataset_fingerprint.json").read_text())
    assert set(written["foreground_intensity_properties_per_channel"]) == {"0", "1", "2"}


def test_a_foreign_preprocessor_is_replaced_and_said(tmp_path):
    source = source_model()
    source.plans["configurations"]["3d_fullres"]["preprocessor_name"] = "TheirPreprocessor"
    plan = planner(tmp_path, make_raw(tmp_path), source)
    assert plan.plan()["configurations"]["3d_fullres"]["preprocessor_name"] == "DefaultPreprocessor"
    assert any("TheirPreprocessor" in line for line in plan.lines())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("normalization_schemes", ["TheirNormalization"] * 3, "normalises with TheirNormalization"),
        ("resampling_fn_data", "their_resampling", "resamples with a function that nnU-Net lacks.*their_resampling"),
    ],
)
def test_what_stock_nnunet_lacks_is_named_and_nothing_is_written(tmp_path, key, value, message):
    source = source_model()
    source.plans["configurations"]["3d_fullres"][key] = value
    with pytest.raises(IncompatibleSource, match=message):
        planner(tmp_path, make_raw(tmp_path), source).write()
    assert not (tmp_path / "preprocessed").exists()


def test_weights_that_do_not_fit_their_own_plans_are_refused_before_anything_is_written(tmp_path):
    source = source_model()
    source.plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["features_per_stage"] = [4, 6, 10]
    with pytest.raises(IncompatibleSource, match="does not fit"):
        planner(tmp_path, make_raw(tmp_path), source).write()
    assert not (tmp_path / "preprocessed").exists()


def test_a_network_with_batch_norm_from_a_stock_trainer_ends_up_in_the_plans(tmp_path):
    source = source_model()
    network = build_network(source.plans, "3d_fullres", source.dataset_json, "nnUNetTrainerBN")
    source = replace(source, weights=network.state_dict(), trainer_name="nnUNetTrainerBN")
    plans = planner(tmp_path, make_raw(tmp_path), source).plan()
    kwargs = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    assert kwargs["norm_op"].endswith("BatchNorm3d")


def test_the_next_stage_of_a_cascade_is_left_out(tmp_path):
    source = source_model(name="3d_lowres")
    source.plans["configurations"]["3d_lowres"]["next_stage"] = "3d_cascade_fullres"
    assert "next_stage" not in planner(tmp_path, make_raw(tmp_path), source).plan()["configurations"]["3d_lowres"]


def test_inherited_configurations_are_written_in_full(tmp_path):
    source = source_model()
    source.plans["configurations"]["3d_bs1"] = {"inherits_from": "3d_fullres", "batch_size": 1}
    plans = planner(tmp_path, make_raw(tmp_path), replace(source, configuration="3d_bs1")).plan()
    assert list(plans["configurations"]) == ["3d_bs1"]
    configured = plans["configurations"]["3d_bs1"]
    assert configured["batch_size"] == 1 and configured["patch_size"] == [16] * 3 and "inherits_from" not in configured


def test_a_damaged_first_image_does_not_decide_on_the_reader(tmp_path, capfd):
    raw = make_raw(tmp_path)
    (raw / "imagesTr" / "a_0000.nii.gz").write_bytes(b"broken")
    plan = planner(tmp_path, raw, source_model())
    assert plan.plan()["image_reader_writer"] == "SimpleITKIO" and plan.notes == []
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_file_ending_that_nothing_reads_is_named(tmp_path):
    raw = make_raw(tmp_path, file_ending=".dcm")
    for file in sorted((raw / "imagesTr").iterdir()):
        file.rename(str(file).replace(".nii.gz", ".dcm"))
    with pytest.raises(ActiveError, match=r"no reader for files ending in \.dcm"):
        planner(tmp_path, raw, source_model()).plan()


def test_labels_without_a_counterpart_are_said(tmp_path):
    plan = planner(tmp_path, make_raw(tmp_path, labels={"background": 0, "stroke": 1}), source_model())
    plan.plan()
    assert not plan.reports["3d_fullres"].head_trained
    assert any("No class name in common (oedema, core -> stroke)" in line for line in plan.lines())


@pytest.mark.parametrize("name", ["", "a/b", "a__b", "..", "dataset", "Splits_final"])
def test_a_plans_name_that_is_no_name_is_refused(tmp_path, name):
    with pytest.raises(ActiveError, match="plans name"):
        planner(tmp_path, make_raw(tmp_path), source_model(), plans_name=name)


@pytest.fixture
def command(tmp_path, monkeypatch):
    for variable in ("raw", "preprocessed", "results"):
        (tmp_path / variable).mkdir(exist_ok=True)
        monkeypatch.setenv(f"nnUNet_{variable}", str(tmp_path / variable))
    make_raw(tmp_path)

    def run(*argv):
        parser = argparse.ArgumentParser()
        plan_command.add_arguments(parser)
        return plan_command.run(parser.parse_args(["-d", NAME, *map(str, argv)]))

    return run


def test_the_command_says_what_was_matched_which_fold_and_what_is_next(tmp_path, command, capsys):
    folder = write_trained(source_model(), tmp_path / "model", "1")
    write_trained(source_model(seed=3), folder, "4")
    assert command("-m", folder) == 0
    printed = capsys.readouterr().out
    assert (
        "fold 1 is taken (another: select --model-folds, init --source-fold, plan -f)" in printed
        and "Channels matched by name: T1, FLAIR, T1ce." in printed
    )
    assert printed.rstrip().endswith("nnunet_active preprocess -d 901 -c 3d_fullres")
    assert command("-m", folder, "-f", "4", "-plans_name", "Mine", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["configurations"]["3d_fullres"]["fold"] == "4"
    assert summary["next"] == ["nnunet_active preprocess -d 901 -c 3d_fullres -p Mine"]
    assert (tmp_path / "preprocessed" / NAME / "Mine.json").is_file()


def test_the_command_plans_several_configurations_at_once(tmp_path, command):
    write_trained(source_model(), tmp_path / "models" / "nnUNetTrainer__nnUNetPlans__3d_fullres")
    write_trained(source_model(name="2d"), tmp_path / "models" / "nnUNetTrainer__nnUNetPlans__2d")
    assert command("-m", tmp_path / "models", "-c", "2d", "3d_fullres") == 0
    plans = json.loads((tmp_path / "preprocessed" / NAME / "nnUNetActivePlans.json").read_text())
    assert set(plans["configurations"]) == {"2d", "3d_fullres"}
    with pytest.raises(MissingInput, match="choose the configuration with -c"):
        command("-m", tmp_path / "models")


@pytest.mark.data
@pytest.mark.parametrize(
    ("target", "source", "name", "kind"),
    [
        ("Dataset204_GliomaTarget", "Dataset203_GliomaSource", "2d", "name"),
        ("Dataset205_GliomaBraTS2015", "Dataset203_GliomaSource", "3d_fullres", "name"),
        ("Dataset004_Hippocampus", "Dataset003_HippocampusSource", "3d_fullres", "name"),
        ("Dataset204_GliomaTarget", "Dataset201_CardiacCine", "2d", "shared"),
    ],
)
def test_real_source_models_give_plans_for_real_targets(test_data, tmp_path, target, source, name, kind):
    plan = SourceModelPlanner(
        test_data / "nnUNet_raw" / target, test_data / "models" / source, name, preprocessed_dataset_folder=tmp_path
    )
    plan.write()
    assert plan.reports[name].channels.kind == kind and plan.reports[name].head_trained == (kind == "name")
    assert (source_folder(tmp_path, "nnUNetActivePlans", name) / "fold_0" / "checkpoint_final.pth").is_file()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"channel_names": list(GLIOMA)}, "must map channel numbers to names"),
        ({"channel_names": {name: index for index, name in enumerate(GLIOMA)}}, "the wrong way round"),
        ({"labels": {"background": 0, "tumour": 1, "core": 3}}, "a gap"),
        ({"labels": ["background", "tumour"]}, "must map names to integers"),
        ({"labels": {"background": 0, "whole": [1, 2], "core": [2]}}, "regions_class_order"),
        ({"file_ending": 5}, "file_ending"),
        ({"file_ending": ".mha"}, "No image in"),
    ],
)
def test_a_dataset_json_that_cannot_be_used_is_one_sentence_before_anything_is_written(tmp_path, change, said):
    raw = make_raw(tmp_path)
    described = {**json.loads((raw / "dataset.json").read_text()), **change}
    (raw / "dataset.json").write_text(json.dumps(described))
    with pytest.raises(MissingInput, match=f"dataset.json.*{said}|{said}.*dataset.json"):
        planner(tmp_path, raw, source_model()).write()
    assert not (tmp_path / "preprocessed").exists()


def test_odd_channel_keys_and_a_reader_that_is_not_there_are_said_and_the_copy_for_nnunet_is_in_order(tmp_path):
    raw = make_raw(tmp_path)
    described = json.loads((raw / "dataset.json").read_text())
    described["channel_names"] = {f"channel {name}": name for name in GLIOMA}
    described["overwrite_image_reader_writer"] = "MyLabIO"
    (raw / "dataset.json").write_text(json.dumps(described))
    plan = planner(tmp_path, raw, source_model())
    plan.write()
    said = "\n".join(plan.lines())
    assert "no channel numbers; as in nnU-Net their order counts: _0000 is" in said
    assert "the image reader MyLabIO, which this nnU-Net does not have; SimpleITKIO is used" in said
    copy = json.loads((tmp_path / "preprocessed" / NAME / "dataset.json").read_text())
    assert copy["channel_names"] == {str(index): name for index, name in enumerate(GLIOMA)}


def test_a_network_of_somebodys_own_package_is_the_source_models(tmp_path):
    source = source_model()
    source.plans["configurations"]["3d_fullres"]["architecture"]["network_class_name"] = "mylab.nets.SuperUNet"
    with pytest.raises(IncompatibleSource, match=r"The network of .* cannot be built here .*install the package"):
        planner(tmp_path, make_raw(tmp_path), source).write()
    assert not (tmp_path / "preprocessed" / NAME).exists()


def test_planning_again_keeps_the_ignore_label_that_was_added_in_between(tmp_path):
    raw = make_raw(tmp_path)
    planner(tmp_path, raw, source_model()).write()
    folder = tmp_path / "preprocessed" / NAME
    declare_ignore_label(raw, folder)
    value = json.loads((folder / "dataset.json").read_text())["labels"]["ignore"]
    planner(tmp_path, raw, source_model()).write()
    for copy in (raw, folder):
        assert json.loads((copy / "dataset.json").read_text())["labels"]["ignore"] == value
