from __future__ import annotations

import pytest
import tiny_source
import torch
from torch import nn

from nnunet_active.scoring.encoder import deepest_features, deepest_stage, unwrap


def network() -> nn.Module:
    return tiny_source.random_network(tiny_source.plans(), "3d_fullres", tiny_source.dataset_json())


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        torch.compile,
        lambda net: torch.compile(nn.DataParallel(net)),
        lambda net: nn.DataParallel(torch.compile(net)),
    ],
)
def test_wrapped_networks_are_unwrapped(wrap):
    net = network()
    assert unwrap(wrap(net)) is net and unwrap(net) is net
    assert deepest_stage(wrap(net)) is net.encoder.stages[-1]


def test_a_real_distributed_wrapper_is_unwrapped(tmp_path):
    net = network()
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        assert unwrap(nn.parallel.DistributedDataParallel(net)) is net
    finally:
        torch.distributed.destroy_process_group()


def test_the_deepest_features_are_the_last_ones_of_an_encoder_that_returns_all():
    net, patch = network(), torch.randn(1, 3, 16, 16, 16)
    stages = net.encoder(patch)
    assert deepest_features(stages) is stages[-1] and deepest_features(patch) is patch
    assert torch.equal(deepest_stage(net)(stages[-2]), stages[-1])


def test_an_encoder_without_stages_is_its_own_deepest_stage():
    net = nn.Module()
    net.encoder = nn.Conv3d(1, 4, 1)
    assert deepest_stage(net) is net.encoder
