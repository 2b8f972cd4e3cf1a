from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from nnunet_active.demo.phantom import PhantomSizes, write_phantom_pair
from nnunet_active.demo.predict_and_measure import load_predictor
from nnunet_active.demo.source_training import Schedule, plan_and_preprocess, tiny_plans, train, train_source
from nnunet_active.models.source_model import read_source_model
from nnunet_active.util.errors import MissingInput

SHORT = Schedule(epochs=1, iterations=2, val_iterations=1)
FEW = PhantomSizes(source=5, source_test=1, target_pool=3, target_test=1)


@pytest.fixture
def dataset(nnunet_folders):
    return write_phantom_pair(nnunet_folders / "nnUNet_raw", FEW).source_name


def test_a_short_training_gives_a_stock_model_folder_that_nnunet_loads_and_that_we_read_as_a_source(
    dataset, nnunet_folders, capsys
):
    model = train_source(dataset, SHORT, progress=False)
    assert model.folder == nnunet_folders / "nnUNet_results" / dataset / "nnUNetTrainer__nnUNetPlans__2d"
    assert {file.name for file in model.folder.glob("*.json")} == {
        "plans.json",
        "dataset.json",
        "dataset_fingerprint.json",
    }
    assert [path.name for path in (nnunet_folders / "nnUNet_results" / dataset).iterdir()] == [model.folder.name]
    assert capsys.readouterr().out == ""

    predictor = load_predictor(model.folder)
    assert predictor.trainer_name == "nnUNetTrainer"
    assert predictor.network(torch.zeros(1, 3, 48, 48)).shape == (1, 3, 48, 48)

    source = read_source_model(model.folder)  # without trust: nothing in the checkpoint needs code to be run
    assert (source.configuration, source.trainer_name) == ("2d", "nnUNetTrainer")
    assert source.weights.keys() == predictor.network.state_dict().keys()


def test_the_same_seed_gives_the_same_weights(dataset):
    first = train_source(dataset, SHORT, progress=False)
    weights = read_source_model(first.folder).weights
    train(dataset, SHORT, progress=False)
    for name, tensor in read_source_model(first.folder).weights.items():
        torch.testing.assert_close(tensor, weights[name])


def test_cases_are_preprocessed_as_the_stock_command_leaves_them(dataset, nnunet_folders):
    folder = plan_and_preprocess(dataset)
    assert folder == nnunet_folders / "nnUNet_preprocessed" / dataset
    cases = sorted(file.name for file in (folder / "nnUNetPlans_2d").iterdir())
    assert cases[:3] == ["source_001.b2nd", "source_001.pkl", "source_001_seg.b2nd"]
    assert len(list((folder / "gt_segmentations").iterdir())) == FEW.source
    fingerprint = json.loads((folder / "dataset_fingerprint.json").read_text())
    assert np.median(fingerprint["spacings"], axis=0).tolist() == [6, 4, 4]
    assert set(fingerprint["foreground_intensity_properties_per_channel"]) == {"0", "1", "2"}


def test_the_patch_covers_the_slice_and_fits_the_poolings():
    fingerprint = {
        "spacings": [[6, 2, 2]],
        "shapes_after_crop": [[10, 50, 64]],
        "foreground_intensity_properties_per_channel": {},
    }
    plans = tiny_plans("Dataset001_X", {"channel_names": {"0": "CT"}}, fingerprint)["configurations"]["2d"]
    assert plans["patch_size"] == [56, 64]
    assert plans["spacing"] == [2.0, 2.0]
    assert len(plans["normalization_schemes"]) == 1


def test_a_data_set_that_is_not_there_is_named(nnunet_folders):
    with pytest.raises(MissingInput, match="Dataset777_Nowhere"):
        train_source("Dataset777_Nowhere", SHORT)
