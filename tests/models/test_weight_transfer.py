from __future__ import annotations

import pytest
import torch
from tiny_source import GLIOMA, dataset_json, plans, random_network, source_model

from nnunet_active.models.name_mapping import map_channels, map_heads
from nnunet_active.models.source_model import carry_over
from nnunet_active.models.weight_transfer import transfer_weights
from nnunet_active.nnunet.networks import build_network
from nnunet_active.util.errors import IncompatibleSource

NETWORKS = [("3d_fullres", False), ("3d_fullres", True), ("2d", False), ("2d", True)]


def image(name: str, channels: int, seed: int = 1) -> torch.Tensor:
    shape = (8, 12, 16)[1 if name == "2d" else 0 :]
    return torch.randn((1, channels, *shape), generator=torch.Generator().manual_seed(seed))


def networks(name, residual, channels=GLIOMA, labels=None, source_channels=GLIOMA, source_labels=None):
    """Source network, target network after the transfer (both with all their heads), and the report."""
    source = source_model(source_channels, source_labels, name, residual)
    before = random_network(source.plans, name, source.dataset_json, deep_supervision=True)
    target_json = dataset_json(channels, labels)
    target_plans = plans((name,), len(channels), residual)
    after = random_network(target_plans, name, target_json, seed=7, deep_supervision=True)
    report = carry_over(after, source, target_plans, target_json)
    return before, after, report


def same(one: list[torch.Tensor], other: list[torch.Tensor], tolerance: float = 1e-6) -> None:
    assert len(one) == len(other) == 2
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("name", "residual"), NETWORKS)
@torch.no_grad()
def test_the_same_data_set_gives_the_same_prediction_at_every_resolution(name, residual):
    before, after, report = networks(name, residual)
    same(after(image(name, 3)), before(image(name, 3)))
    assert report.head_trained and report.stem == report.head == ()


@pytest.mark.parametrize(("name", "residual"), NETWORKS)
@torch.no_grad()
def test_permuted_channels_are_found_by_name_whatever_their_case(name, residual):
    before, after, report = networks(name, residual, channels=("t1CE", " T1", "flair"))
    x = image(name, 3)
    same(after(x[:, [2, 0, 1]]), before(x))
    assert len(report.stem) == 4  # the input layer has two names in the encoder, and the decoder keeps the encoder


@pytest.mark.parametrize(("name", "residual"), NETWORKS)
@torch.no_grad()
def test_a_channel_that_the_source_does_not_know_changes_nothing_at_first(name, residual):
    before, after, report = networks(name, residual, channels=("T2", *GLIOMA))
    x = image(name, 4)
    same(after(x), before(x[:, 1:]))
    assert "start with zero weights: T2" in " ".join(report.lines())


@pytest.mark.parametrize(("name", "residual"), NETWORKS)
@torch.no_grad()
def test_a_single_channel_shared_out_over_equal_channels_gives_the_same_prediction(name, residual):
    before, after, report = networks(name, residual, channels=("LGE", "filtered"), source_channels=("cine",))
    x = image(name, 1)
    same(after(x.expand(-1, 2, *x.shape[2:])), before(x), 1e-5)
    assert report.channels.kind == "shared" and "W / 2" in report.lines()[0]


@torch.no_grad()
def test_a_dropped_channel_is_named_and_counts_as_zero():
    before, after, report = networks("3d_fullres", False, channels=("FLAIR", "T1ce"))
    x = image("3d_fullres", 3)
    x[:, 0] = 0
    same(after(x[:, 1:]), before(x))
    assert report.channels.dropped == ("T1",) and "dropped: T1." in report.lines()[1]


@torch.no_grad()
def test_one_unknown_channel_takes_the_place_of_the_sources_only_one():
    before, after, report = networks("2d", False, channels=("LGE",), source_channels=("cine",))
    same(after(image("2d", 1)), before(image("2d", 1)))
    assert report.lines()[0] == "No channel name in common; channels matched by position: LGE <- cine."


@pytest.mark.parametrize(("name", "residual"), NETWORKS)
@torch.no_grad()
def test_permuted_labels_give_permuted_outputs_at_every_resolution(name, residual):
    before, after, report = networks(name, residual, labels={"background": 0, "core": 1, "Oedema": 2})
    x = image(name, 3)
    same(after(x), [output[:, [0, 2, 1]] for output in before(x)])
    assert report.head_trained and len(report.head) == 4


def test_a_new_class_is_never_predicted_at_first_and_can_be_learned():
    before, after, report = networks("3d_fullres", False, labels={"background": 0, "oedema": 1, "core": 2, "cyst": 3})
    x = image("3d_fullres", 3)
    logits, source_logits = after(x)[0], before(x)[0]
    torch.testing.assert_close(logits[:, :3], source_logits, rtol=0, atol=1e-6)
    assert torch.softmax(logits, 1)[:, 3].max() < 1e-3
    assert "low bias: cyst" in " ".join(report.lines())
    truth = torch.full((1, *logits.shape[2:]), 3)
    torch.nn.functional.cross_entropy(logits, truth).backward()
    head = after.decoder.seg_layers[-1]
    assert head.weight.grad[3].abs().max() > 0 and head.bias.grad[3] < -0.9


@torch.no_grad()
def test_a_class_that_the_target_lacks_is_dropped_and_named():
    before, after, report = networks("2d", True, labels={"background": 0, "core": 1})
    x = image("2d", 3)
    same(after(x), [output[:, [0, 2]] for output in before(x)])
    assert "dropped: oedema." in report.lines()[-1]


@pytest.mark.parametrize(
    "labels", [{"background": 0, "stroke": 1}, {"background": 0, "whole tumour": [1, 2], "core": [2]}]
)
def test_heads_without_a_common_meaning_start_untrained_and_the_report_says_so(labels):
    source = source_model()
    target_json = dataset_json(GLIOMA, labels, regions_class_order=[1, 2])
    network = build_network(source.plans, "3d_fullres", target_json)
    heads = {key: value.clone() for key, value in network.state_dict().items() if "seg_layers" in key}
    report = carry_over(network, source, source.plans, target_json)
    assert not report.head_trained and "untrained head" in " ".join(report.lines())
    state = network.state_dict()
    assert all(torch.equal(state[key], value) for key, value in heads.items()) and set(report.head) == set(heads)
    body = [key for key in state if key not in heads]
    assert all(torch.equal(state[key], source.weights[key]) for key in body)


@torch.no_grad()
def test_regions_are_matched_by_name():
    regions = {"background": 0, "whole tumour": [1, 2], "core": [2]}
    source = source_model(labels=regions, regions_class_order=[1, 2])
    target_json = dataset_json(
        labels={"background": 0, "core": [2], "whole tumour": [1, 2]}, regions_class_order=[2, 1]
    )
    before = random_network(source.plans, "3d_fullres", source.dataset_json)
    after = build_network(source.plans, "3d_fullres", target_json).eval()
    assert carry_over(after, source, source.plans, target_json).head_trained
    x = image("3d_fullres", 3)
    torch.testing.assert_close(after(x), before(x)[:, [1, 0]], rtol=0, atol=1e-6)


def test_a_network_that_differs_is_refused_with_the_differences_and_left_alone():
    source = source_model()
    target_plans = plans()
    target_plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["features_per_stage"] = [4, 6, 10]
    network = build_network(target_plans, "3d_fullres", source.dataset_json)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(IncompatibleSource, match=r"8x6x3x3x3 in the source and 10x6x3x3x3.* and \d+ more"):
        carry_over(network, source, target_plans, source.dataset_json)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_keys_that_only_one_side_has_are_named():
    source = source_model()
    network = build_network(source.plans, "3d_fullres", source.dataset_json)
    mapping = map_channels(GLIOMA, GLIOMA), map_heads(*[tuple(source.dataset_json["labels"])] * 2)
    with pytest.raises(IncompatibleSource, match="extra 2 is not in the target"):
        transfer_weights(network, {**source.weights, "extra": torch.ones(2)}, *mapping)
    with pytest.raises(IncompatibleSource, match=r"transpconvs.0.bias 6 is not in the source"):
        weights = {key: value for key, value in source.weights.items() if key != "decoder.transpconvs.0.bias"}
        transfer_weights(network, weights, *mapping)


@torch.no_grad()
def test_a_checkpoint_without_the_duplicated_names_is_enough():
    source = source_model()
    weights = {k: v for k, v in source.weights.items() if "decoder.encoder" not in k and "all_modules" not in k}
    assert len(weights) < len(source.weights) / 2
    network = build_network(source.plans, "3d_fullres", dataset_json(("FLAIR", "T1")))
    names = tuple(source.dataset_json["labels"])
    transfer_weights(network, weights, map_channels(GLIOMA, ("FLAIR", "T1")), map_heads(names, names))
    expected = source.weights["encoder.stages.0.0.convs.0.conv.weight"][:, [1, 0]]
    assert torch.equal(network.state_dict()["decoder.encoder.stages.0.0.convs.0.all_modules.0.weight"], expected)


def test_a_compiled_network_is_filled_as_well():
    source = source_model()
    network = build_network(source.plans, "3d_fullres", source.dataset_json)
    carry_over(torch.compile(network), source, source.plans, source.dataset_json)
    assert all(torch.equal(value, source.weights[key]) for key, value in network.state_dict().items())


class Undeclared(torch.nn.Module):
    """A network of no known kind: neither keys_to_in_proj nor seg_layers, and a transposed convolution at the end."""

    def __init__(self, channels: int, classes: int, features: int = 5) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(channels, features, 3, padding=1), torch.nn.Conv2d(features, 7, 3, padding=1)
        )
        self.out = torch.nn.ConvTranspose2d(7, classes, 2, 2)

    def forward(self, x):
        return self.out(self.body(x))


@torch.no_grad()
def test_input_and_output_layers_that_are_not_declared_are_told_by_their_shape():
    before, after = Undeclared(3, 3), Undeclared(2, 4)
    channels = map_channels(GLIOMA, ("FLAIR", "T1"))
    heads = map_heads(("background", "a", "b"), ("background", "b", "new", "a"))
    report = transfer_weights(after, before.state_dict(), channels, heads)
    x = image("2d", 3)
    x[:, 2] = 0
    torch.testing.assert_close(after(x[:, [1, 0]])[:, [0, 3, 1]], before(x), rtol=0, atol=1e-6)
    assert report.stem == ("body.0.weight",) and report.head == ("out.bias", "out.weight")


def test_an_input_layer_that_cannot_be_told_is_refused():
    network = Undeclared(3, 2, features=3)  # two layers with three inputs
    names = ("background", "a")
    with pytest.raises(IncompatibleSource, match="Undeclared does not declare its input layer"):
        channels = map_channels(GLIOMA, ("FLAIR", "T1", "T1ce"))
        transfer_weights(network, network.state_dict(), channels, map_heads(names, names))
