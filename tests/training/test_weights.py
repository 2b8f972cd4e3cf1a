from __future__ import annotations

import pytest
import tiny_source
import torch
from torch import nn

from nnunet_active.training.weights import copy_weights, follow, live_weights, put_weights


def network(seed: int = 0) -> nn.Module:
    source = tiny_source.source_model()
    return tiny_source.random_network(source.plans, "3d_fullres", source.dataset_json, seed)


class Wrapped(nn.Module):
    """As torch.compile and DDP wrap: the network is an attribute."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.module = inner


def test_a_tensor_that_has_two_names_is_there_once_and_all_are_there():
    one = network()
    names = live_weights(one)
    state = one.state_dict()
    assert len(names) < len(state)  # nnU-Net lists its encoder twice
    assert {value.data_ptr() for value in names.values()} == {value.data_ptr() for value in state.values()}


def test_weights_that_are_put_back_are_the_ones_that_were_taken_whatever_wraps_the_network():
    one = network()
    before = {name: value.clone() for name, value in one.state_dict().items()}
    kept = copy_weights(Wrapped(one))
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.mul_(2)
    put_weights(Wrapped(one), kept)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_buffers_belong_to_the_weights():
    norm = nn.BatchNorm3d(2)
    assert set(live_weights(norm)) == {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


def test_missing_weights_are_an_error():
    with pytest.raises(KeyError):
        put_weights(nn.Linear(1, 1), {"weight": torch.zeros(1, 1)})


def test_an_average_follows_by_its_decay_and_takes_over_what_is_no_floating_point_number():
    average = {"weight": torch.tensor([1.0, 2.0]), "seen": torch.tensor(3)}
    follow(average, {"weight": torch.tensor([2.0, 0.0]), "seen": torch.tensor(8)}, 0.75)
    assert average["weight"].tolist() == [1.25, 1.5] and int(average["seen"]) == 8
