from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ranks_of_a_test import on_ranks
from torch import nn

from nnunet_active.training.adaptation import Adaptation
from nnunet_active.training.weights import copy_weights, put_weights


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def steps(network: nn.Module, optimizer, number: int) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(number):
        optimizer.zero_grad()
        network(torch.randn(8, 3, generator=generator)).square().mean().backward()
        optimizer.step()


def flat(network: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def test_the_average_is_the_recursion_by_hand_from_the_source_on():
    network, decay = net(), 0.8
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    adaptation = Adaptation(network, decay=decay)
    adaptation.attach(optimizer)
    expected, mean = flat(network).numpy().astype(np.float64), adaptation.source["1.running_mean"].numpy()
    for number in range(1, 6):
        steps(network, optimizer, 1)
        expected = decay * expected + (1 - decay) * flat(network).numpy()
        mean = decay * mean + (1 - decay) * network[1].running_mean.numpy()
        with adaptation.predicting():
            np.testing.assert_allclose(flat(network).numpy(), expected, rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(network[1].running_mean.numpy(), mean, rtol=1e-5, atol=1e-7)
            assert network[1].num_batches_tracked == number


def test_looking_at_the_average_changes_nothing_and_may_be_nested():
    network = net()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    adaptation = Adaptation(network, decay=0.9)
    adaptation.attach(optimizer)
    steps(network, optimizer, 3)
    before = copy_weights(network)
    with adaptation.predicting():
        first = copy_weights(network)
        with adaptation.predicting():
            assert all(torch.equal(value, first[name]) for name, value in copy_weights(network).items())
            assert all(
                torch.equal(value, before[name]) for name, value in adaptation.state()["trained_weights"].items()
            )
    with pytest.raises(RuntimeError), adaptation.predicting():
        raise RuntimeError
    assert all(torch.equal(value, before[name]) for name, value in copy_weights(network).items())
    assert all(torch.equal(value, before[name]) for name, value in adaptation.state()["trained_weights"].items())


def test_attached_twice_it_follows_each_step_once_and_a_new_optimizer_is_followed_too():
    network = net()
    adaptation = Adaptation(network, decay=0.5)
    first = torch.optim.SGD(network.parameters(), lr=0.1)
    adaptation.attach(first)
    adaptation.attach(first)
    expected = flat(network)
    second = torch.optim.SGD(network.parameters(), lr=0.1)
    for optimizer in (first, second):
        adaptation.attach(optimizer)
        steps(network, optimizer, 1)
        expected = (expected + flat(network)) / 2
        with adaptation.predicting():
            torch.testing.assert_close(flat(network), expected)


def test_off_leaves_every_step_and_the_predictions_as_they_are():
    ends = []
    for adapted in (False, True):
        network = net()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        adaptation = Adaptation(network)
        if adapted:
            adaptation.attach(optimizer)
        steps(network, optimizer, 3)
        ends.append(flat(network))
        with adaptation.predicting():
            assert torch.equal(flat(network), ends[0])
    assert torch.equal(*ends)
    assert adaptation.state() == {"interpolation": 1.0}


def test_a_step_that_the_gradient_scaler_skips_moves_neither_the_weights_nor_the_average():
    network = net()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    adaptation = Adaptation(network, decay=0.5)
    adaptation.attach(optimizer)
    steps(network, optimizer, 1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    before = copy_weights(network)
    with adaptation.predicting():
        average = copy_weights(network)
    for value, moves in ((float("inf"), False), (1.0, True)):
        optimizer.zero_grad()
        scaler.scale(network(torch.randn(8, 3)).square().mean() * value).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(network[0].weight, before["0.weight"]) is not moves
        with adaptation.predicting():
            assert torch.equal(network[0].weight, average["0.weight"]) is not moves


def test_a_restart_is_the_source_with_an_optimizer_that_remembers_nothing():
    network = net()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    adaptation = Adaptation(network, decay=0.5)
    adaptation.attach(optimizer)
    steps(network, optimizer, 4)
    once = copy_weights(network)
    adaptation.restart(optimizer)
    assert all(torch.equal(value, adaptation.source[name]) for name, value in copy_weights(network).items())
    with adaptation.predicting():
        assert all(torch.equal(value, adaptation.source[name]) for name, value in copy_weights(network).items())
    steps(network, optimizer, 4)
    assert all(torch.equal(value, once[name]) for name, value in copy_weights(network).items())


def test_a_compiled_network_predicts_with_the_average_and_goes_on_with_its_own_weights():
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    compiled = torch.compile(network, backend="eager")
    optimizer = torch.optim.SGD(compiled.parameters(), lr=0.1)
    adaptation = Adaptation(compiled, decay=0.9)
    adaptation.attach(optimizer)
    steps(compiled, optimizer, 3)
    batch = torch.randn(5, 3)
    own = compiled(batch)
    with adaptation.predicting():
        torch.testing.assert_close(compiled(batch), network(batch))
        assert not torch.allclose(compiled(batch), own)
    assert torch.equal(compiled(batch), own)


def _one_of_two(rank: int, folder: Path) -> None:
    network = net()
    network[1] = nn.Identity()  # batch statistics are each rank's own without SyncBatchNorm
    wrapped = nn.parallel.DistributedDataParallel(network)
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.1, momentum=0.9)
    adaptation = Adaptation(wrapped, decay=0.7)
    adaptation.attach(optimizer)
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        optimizer.zero_grad()
        batch = torch.randn(2, 8, 3, generator=generator)[rank]
        wrapped(batch).square().mean().backward()
        optimizer.step()
    with adaptation.predicting():
        average = copy_weights(network)
    torch.save({"trained": adaptation.state()["trained_weights"], "average": average}, folder / f"rank_{rank}.pth")


def test_with_two_processes_every_rank_has_the_same_weights_and_the_same_average(tmp_path):
    on_ranks(_one_of_two, tmp_path)
    one, other = (torch.load(tmp_path / f"rank_{rank}.pth") for rank in (0, 1))
    for part in ("trained", "average"):
        assert all(torch.equal(value, other[part][name]) for name, value in one[part].items())
    assert not torch.equal(one["trained"]["0.weight"], one["average"]["0.weight"])


def test_other_weights_are_there_for_a_while_only():
    network = net()
    adaptation = Adaptation(network, decay=0.5)
    with torch.no_grad():
        network[0].weight.add_(1)
    before = copy_weights(network)
    with adaptation.replaced(adaptation.source):
        assert torch.equal(network[0].weight, adaptation.source["0.weight"])
    assert all(torch.equal(value, before[name]) for name, value in copy_weights(network).items())


@pytest.mark.parametrize("decay", [None, 0.5])
def test_interpolated_weights_lie_between_the_source_and_the_trained_ones_and_a_free_head_is_the_trained_one(decay):
    network = net()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    adaptation = Adaptation(network, decay=decay, free=["2.weight", "2.bias"], interpolation=0.25)
    adaptation.attach(optimizer)
    steps(network, optimizer, 4)
    trained = copy_weights(network)
    end = trained if decay is None else adaptation.state()["averaged_weights"]
    with adaptation.predicting():
        for name, tensor in copy_weights(network).items():
            share = 1.0 if name.startswith("2.") or not tensor.is_floating_point() else 0.25
            expected = adaptation.source[name] + share * (end[name] - adaptation.source[name])
            torch.testing.assert_close(tensor, expected.to(tensor.dtype))
        assert all(torch.equal(value, trained[name]) for name, value in adaptation.state()["trained_weights"].items())
    assert all(torch.equal(value, trained[name]) for name, value in copy_weights(network).items())


@pytest.mark.parametrize("decay", [None, 0.5])
def test_a_resumed_interpolation_goes_on_bit_for_bit(decay):
    ends = []
    for stop in (False, True):
        network = net()
        source = copy_weights(network)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        adaptation = Adaptation(network, decay=decay, interpolation=0.3)
        adaptation.attach(optimizer)
        steps(network, optimizer, 3)
        if stop:
            with adaptation.predicting():
                saved, beside = copy_weights(network), adaptation.state()
            put_weights(network, source)
            adaptation = Adaptation(network, decay=decay, interpolation=0.3)
            put_weights(network, saved)
            adaptation.resume(beside)
            optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
            adaptation.attach(optimizer)
        steps(network, optimizer, 2)
        with adaptation.predicting():
            ends.append((copy_weights(network), adaptation.state()))
    assert all(torch.equal(ends[0][0][name], value) for name, value in ends[1][0].items())
    assert ends[0][1].pop("interpolation") == ends[1][1].pop("interpolation") == 0.3
    assert not ends[0][1].pop("is_source") and not ends[1][1].pop("is_source")
    for key, weights in ends[0][1].items():
        assert all(torch.equal(ends[1][1][key][name], value) for name, value in weights.items())


def test_a_checkpoint_tells_whether_the_source_itself_predicts_which_a_free_head_rules_out():
    for free, is_source in (((), True), (("0.weight",), False)):
        adaptation = Adaptation(nn.Linear(2, 2), free=free, interpolation=0.0)
        assert adaptation.state()["is_source"] is is_source
