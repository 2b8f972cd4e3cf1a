from __future__ import annotations

import numpy as np
import pytest
import tiny_source
import torch
from torch import nn

from nnunet_active.scoring.embedding import EmbeddingRecorder


def network(name: str = "3d_fullres", residual: bool = False, **how) -> nn.Module:
    plans = tiny_source.plans((name,), residual=residual)
    return tiny_source.random_network(plans, name, tiny_source.dataset_json(), **how)


def patches(count: int, batch: int = 1, dimension: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn((batch, 3, *[16] * dimension), generator=generator) for _ in range(count)]


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(("name", "dimension"), [("3d_fullres", 3), ("2d", 2)])
def test_the_embedding_is_the_mean_of_the_deepest_features_over_space_and_patches(name, dimension, residual):
    net = network(name, residual)
    inputs = patches(3, dimension=dimension)
    with torch.no_grad(), EmbeddingRecorder(net) as recorder:
        for patch in inputs:
            net(patch)
    with torch.no_grad():
        deepest = [net.encoder(patch)[-1] for patch in inputs]
    assert deepest[0].shape == (1, 8, *[4] * dimension)
    expected = torch.stack([features[0].flatten(1).mean(1) for features in deepest]).mean(0)
    assert recorder.embedding().dtype == np.float32 and recorder.embedding().shape == (8,)
    np.testing.assert_allclose(recorder.embedding(), expected.numpy(), rtol=1e-5)


def test_every_patch_of_a_batch_counts_once():
    net, inputs = network(), patches(3)
    with torch.no_grad(), EmbeddingRecorder(net) as one_by_one:
        for patch in inputs:
            net(patch)
    with torch.no_grad(), EmbeddingRecorder(net) as in_batches:
        net(torch.cat(inputs[:2]))
        net(inputs[2])
    np.testing.assert_allclose(one_by_one.embedding(), in_batches.embedding(), rtol=1e-5)


def test_the_features_are_those_of_training_with_deep_supervision_as_well():
    plain, deep = network(), network(deep_supervision=True)
    deep.encoder.load_state_dict(plain.encoder.state_dict())
    found = []
    for net in (plain, deep):
        with torch.no_grad(), EmbeddingRecorder(net) as recorder:
            net(patches(1)[0])
        found.append(recorder.embedding())
    np.testing.assert_array_equal(*found)


def test_half_precision_features_are_summed_in_single_precision():
    net = nn.Module()
    net.encoder = nn.Identity()
    with EmbeddingRecorder(net) as recorder:
        for _ in range(2):
            net.encoder(torch.full((1, 1, 4, 4, 4), 60000.0, dtype=torch.float16))
    assert recorder.embedding()[0] == pytest.approx(60000, rel=1e-3)


def test_the_hook_is_gone_afterwards_also_after_an_error():
    net = network()
    with pytest.raises(RuntimeError), EmbeddingRecorder(net) as broken:
        net(torch.zeros(1, 99, 16, 16, 16))
    with torch.no_grad():
        net(patches(1)[0])
    with pytest.raises(ValueError, match="was not run"):
        broken.embedding()
    with torch.no_grad(), EmbeddingRecorder(net) as recorder:
        net(patches(1)[0])
    before = recorder.embedding()
    with torch.no_grad():
        net(patches(1)[0] + 1)
    np.testing.assert_array_equal(recorder.embedding(), before)


def test_recording_changes_neither_the_output_nor_the_gradients():
    net, (patch,) = network(), patches(1)
    plain = net(patch)
    with EmbeddingRecorder(net):
        recorded = net(patch)
    assert torch.equal(plain, recorded) and recorded.requires_grad


def test_a_network_without_an_encoder_is_named():
    with pytest.raises(ValueError, match=r"Conv3d has no \.encoder"):
        EmbeddingRecorder(nn.Conv3d(1, 1, 1))


def test_no_forward_pass_is_an_error():
    with EmbeddingRecorder(network()) as recorder, pytest.raises(ValueError, match="was not run"):
        recorder.embedding()
