from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from killed_process import killed_before_rename, needs_fork
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from tiny_source import random_network, source_model

from nnunet_active.models.model_writing import save_source_model
from nnunet_active.models.source_model import find_source, read_source_model, source_folder


@pytest.fixture(scope="module")
def source():
    return source_model()


def equal_weights(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(("name", "residual"), [("3d_fullres", False), ("2d", True)])
@torch.no_grad()
def test_a_saved_source_model_is_read_by_nnunets_own_predictor(tmp_path, name, residual):
    source = source_model(name=name, residual=residual)
    folder = source_folder(tmp_path, "nnUNetActivePlans", name)
    save_source_model(source, folder)
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), None)
    assert predictor.trainer_name == "nnUNetTrainer" and predictor.allowed_mirroring_axes == source.mirror_axes
    x = torch.randn(1, 3, *[16] * (2 if name == "2d" else 3))
    expected = random_network(source.plans, name, source.dataset_json)(x)
    assert torch.equal(predictor.network.eval()(x), expected)
    content = torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=True)  # needs no allowance
    assert "optimizer_state" not in content


def test_saving_again_replaces_the_folder_and_leaves_nothing_beside_it(source, tmp_path):
    folder = tmp_path / "kept"
    save_source_model(replace(source, fold="3"), folder)
    save_source_model(source, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "dataset.json",
        "dataset_fingerprint.json",
        "fold_0",
        "plans.json",
    ]


def test_a_failed_write_leaves_the_old_model(source, tmp_path):
    folder = tmp_path / "kept"
    save_source_model(source, folder)
    with pytest.raises(TypeError):
        save_source_model(replace(source, plans={"not": {1, 2}}), folder)
    assert equal_weights(read_source_model(folder).weights, source.weights)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@needs_fork
def test_a_source_network_is_found_whole_after_a_kill_at_any_moment_of_its_replacement(source, tmp_path):
    other, plans = source_model(seed=9), ("nnUNetActivePlans", "3d_fullres")
    folder, kept = source_folder(tmp_path, *plans), []
    for number in range(20):
        save_source_model(source, folder)
        killed = killed_before_rename(lambda: save_source_model(other, folder), number)
        kept.append(find_source(tmp_path, *plans, "0", None).weights)
        if not killed:
            break
        assert equal_weights(kept[-1], source.weights)
    assert equal_weights(kept[-1], other.weights) and len(kept) > 4
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
