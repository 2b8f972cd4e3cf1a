from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from tiny_rounds import copy_of, make_once, start

from nnunet_active.data.partly_labelled import read_label_map
from nnunet_active.rounds.asking_model import FoundModel, make_window
from nnunet_active.rounds.forecast_record import forecast_folder
from nnunet_active.rounds.map_temperature import TEMPERATURES, fit_map_temperature, fitted_temperature
from nnunet_active.scoring.temperature import doubtful, fit_temperature, mean_surprise
from nnunet_active.workspace import Workspace

CASES = ["case_0", "case_1", "case_2"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_once(tmp_path_factory.mktemp("made"), labelled=3, unlabelled=1)


@pytest.fixture
def workspace(made, nnunet_folders):
    copy_of(made, nnunet_folders)
    return Workspace.of(start())


def window_of(workspace: Workspace):
    return make_window(FoundModel((workspace.source,), "source"), workspace, torch.device("cpu"))


def test_the_temperature_fits_the_labels_and_is_kept_for_that_network_alone(workspace):
    window = window_of(workspace)
    found = fit_map_temperature(workspace, window, "a", CASES)
    samples = []
    for case in CASES:
        logits = window.logits(workspace.store.load_image(case)).float()
        truth = torch.from_numpy(np.ascontiguousarray(read_label_map(workspace.store.folder, case)[0]).astype(np.int64))
        chosen = (truth.flatten() >= 0) & doubtful(logits.flatten(1))
        samples.append((logits.flatten(1)[:, chosen], truth.flatten()[chosen]))
    assert found == pytest.approx(fit_temperature(samples), rel=0.02)
    assert mean_surprise(samples, found) < mean_surprise(samples, 1.0)
    assert fitted_temperature(workspace.campaign, "a") == found and fitted_temperature(workspace.campaign, "b") == 1


def test_the_same_cases_are_not_predicted_again(workspace):
    window = window_of(workspace)
    found = fit_map_temperature(workspace, window, "a", CASES)
    window.slabs = None
    assert fit_map_temperature(workspace, window, "a", CASES) == found


def test_two_cases_are_too_few_and_a_damaged_file_is_as_good_as_none(workspace):
    assert fit_map_temperature(workspace, window_of(workspace), "a", CASES[:2]) == 1
    file = forecast_folder(workspace.campaign) / TEMPERATURES
    assert not file.exists()
    file.parent.mkdir(parents=True, exist_ok=True)
    for damaged in ("{", "[]", '{"a": 3}', '{"a": {"temperature": "x"}}', '{"a": {"temperature": -1}}'):
        file.write_text(damaged)
        assert fitted_temperature(workspace.campaign, "a") == 1


@pytest.mark.parametrize("changed", ["", "_seg"])
def test_after_an_image_or_a_label_has_changed_it_is_fitted_again(workspace, changed):
    window = window_of(workspace)
    fit_map_temperature(workspace, window, "a", CASES)
    os.utime(workspace.store.folder / f"case_1{changed}.b2nd", (2e9, 2e9))
    window.slabs = None
    with pytest.raises(TypeError):
        fit_map_temperature(workspace, window, "a", CASES)
