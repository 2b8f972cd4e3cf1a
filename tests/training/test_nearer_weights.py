from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from tiny_source import dataset_json, plans, random_network, source_model, write_trained

from nnunet_active.nnunet.networks import build_network
from nnunet_active.training.nearer_weights import check_is_adapted, nearer_weights
from nnunet_active.training.weights import interpolate, live_weights
from nnunet_active.util.errors import ActiveError, MissingInput, UnsafeCheckpoint

PLANS, TARGET = plans(), dataset_json()


@pytest.fixture
def source():
    return source_model()


def adapted(source, alpha: float, seed: int = 5, target: dict = TARGET) -> tuple[dict, dict]:
    """A checkpoint's content as our trainers write it, and the trained weights."""
    network = random_network(PLANS, "3d_fullres", target, seed)
    trained = {name: tensor.clone() for name, tensor in live_weights(network).items()}
    predicting = interpolate(source.weights, network.state_dict(), alpha)
    details = {"labelled": ["a"], "interpolation": alpha, **({"trained_weights": trained} if alpha != 1 else {})}
    return {"network_weights": predicting, "nnunet_active": details}, trained


@pytest.mark.parametrize("alpha", [0.5, 0.75, 1.0])
def test_they_are_a_quarter_of_the_way_from_the_source_to_the_trained_weights(source, alpha):
    content, trained = adapted(source, alpha)
    found = nearer_weights(content, "checkpoint", source, PLANS, TARGET)
    assert found.differ and found.alpha == alpha
    for name, tensor in trained.items():
        expected = torch.lerp(source.weights[name], tensor, 0.25)
        torch.testing.assert_close(found.nearer[name], expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found.source[name], source.weights[name], rtol=0, atol=0)
    build_network(PLANS, "3d_fullres", TARGET).load_state_dict(found.nearer)  # aliases are there as well


@pytest.mark.parametrize("alpha", [0.0, 0.25])
def test_a_model_that_is_as_near_stays_as_it_is(source, alpha):
    content, _ = adapted(source, alpha)
    found = nearer_weights(content, "checkpoint", source, PLANS, TARGET)
    assert not found.differ and found.is_source == (alpha == 0)
    for name, tensor in content["network_weights"].items():
        torch.testing.assert_close(found.nearer[name], tensor, rtol=0, atol=0)


def test_the_head_of_a_class_that_the_source_does_not_know_stays_the_trained_one(source):
    target = dataset_json(labels={"background": 0, "oedema": 1, "core": 2, "cyst": 3})
    network = random_network(PLANS, "3d_fullres", target, 5)
    content = {"network_weights": network.state_dict(), "nnunet_active": {"labelled": ["a"]}}
    found = nearer_weights(content, "checkpoint", source, PLANS, target)
    heads = [name for name in found.nearer if "seg_layers" in name]
    assert heads
    for name in heads:
        torch.testing.assert_close(found.nearer[name], network.state_dict()[name], rtol=0, atol=0)


@pytest.mark.parametrize("alpha", [0.0, 0.75])
def test_another_source_than_the_one_of_the_training_is_refused(source, alpha):
    content, _ = adapted(source, alpha)
    with pytest.raises(ActiveError, match=r"was not adapted from the source network.*nnUNetv2_predict"):
        nearer_weights(content, "checkpoint", source_model(seed=1), PLANS, TARGET)
    fewer = {name: tensor for name, tensor in content["network_weights"].items() if "encoder.stages.0" not in name}
    with pytest.raises(ActiveError, match="was not adapted from"):
        nearer_weights({**content, "network_weights": fewer}, "checkpoint", source, PLANS, TARGET)


def test_a_source_without_a_head_for_these_labels_cannot_guard(source):
    target = dataset_json(labels={"background": 0, "liver": 1, "spleen": 2, "vessel": 3})
    network = random_network(PLANS, "3d_fullres", target, 5)
    content = {"network_weights": network.state_dict(), "nnunet_active": {"labelled": ["a"]}}
    with pytest.raises(ActiveError, match="has no output for the labels"):
        nearer_weights(content, "checkpoint", source, PLANS, target)


def test_a_stock_model_is_sent_to_the_stock_command(source, tmp_path):
    write_trained(source, tmp_path)
    file = tmp_path / "fold_0" / "checkpoint_final.pth"
    with pytest.raises(MissingInput, match=r"no source network is known.*nnUNetv2_predict"):
        check_is_adapted(file)
    with pytest.raises(MissingInput, match=re.escape("fold_3")):
        check_is_adapted(tmp_path / "fold_3" / "checkpoint_final.pth")


def test_where_another_of_our_trainers_has_finished_the_fold_it_is_named(source, tmp_path):
    def file(trainer: str, configuration: str = "2d", fold: str = "0"):
        return tmp_path / f"{trainer}__P__{configuration}" / f"fold_{fold}" / "checkpoint_final.pth"

    for found in (file("Ours"), file("Stock"), file("Other", "3d_fullres"), file("Elsewhere", fold="1")):
        details = {} if found == file("Stock") else {"nnunet_active": {"labelled": ["a"]}}
        write_trained(source, found.parents[1], found.parent.name.removeprefix("fold_"), **details)
    file("Damaged").parent.mkdir(parents=True)
    file("Damaged").write_bytes(b"no checkpoint")
    with pytest.raises(MissingInput, match=re.escape("name the trainer that wrote one (-tr Ours), train that fold")):
        check_is_adapted(file("Default"))
    with pytest.raises(MissingInput, match="was not found; train that fold"):
        check_is_adapted(file("Default", fold="2"))


def test_a_checkpoint_that_could_run_code_is_refused(source, tmp_path):
    write_trained(source, tmp_path, nnunet_active={"labelled": []}, payload=replace)
    with pytest.raises(UnsafeCheckpoint):
        check_is_adapted(tmp_path / "fold_0" / "checkpoint_final.pth")
