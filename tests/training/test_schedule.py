from __future__ import annotations

import pytest
import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

from nnunet_active.training.schedule import RoundSchedule

EPOCHS = 10


def rates(warmup: int, rounds: list[tuple[int, int]], make=None, order=range(EPOCHS)) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    inner = (make or (lambda o: PolyLRScheduler(o, 0.5, EPOCHS)))(optimizer)

    def round_of(epoch: int) -> tuple[int, int]:
        return next((start, end) for start, end in rounds if start <= epoch < end)

    schedule = RoundSchedule(inner, optimizer, EPOCHS, warmup, round_of)
    found = []
    for epoch in order:
        schedule.step(epoch)
        found.append(optimizer.param_groups[0]["lr"])
    return found


def poly(x: float) -> float:
    return 0.5 * (1 - x) ** 0.9


def test_one_round_without_warm_up_is_the_trainers_own_schedule():
    assert rates(0, [(0, EPOCHS)]) == [poly(epoch / EPOCHS) for epoch in range(EPOCHS)]


def test_each_round_runs_through_the_whole_schedule():
    expected = [poly(e / 4) for e in range(4)] + [poly(e / 6) for e in range(6)]
    assert rates(0, [(0, 4), (4, 10)]) == pytest.approx(expected)


def test_warm_up_is_linear_at_the_beginning_of_each_round():
    expected = [poly(e / 5) * min(1, (e + 1) / 3) for _ in range(2) for e in range(5)]
    assert rates(2, [(0, 5), (5, 10)]) == pytest.approx(expected)


def test_a_resumed_training_finds_the_same_rates():
    rounds = [(0, 4), (4, 10)]
    assert rates(2, rounds, order=[5, 6, 7]) == rates(2, rounds)[5:8]


def test_a_schedule_that_goes_on_from_its_last_rate_is_not_misled_by_the_warm_up():
    def make(optimizer):
        return torch.optim.lr_scheduler.MultiplicativeLR(optimizer, lambda epoch: 0.5)

    class Chained:
        def __init__(self, optimizer):
            self.inner = make(optimizer)

        def step(self, epoch):
            self.inner.step()

    found = rates(3, [(0, EPOCHS)], Chained, order=range(5))
    assert found == pytest.approx([0.5**k * 0.5 * min(1, k / 4) for k in range(1, 6)])


def test_other_attributes_are_those_of_the_inner_schedule():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    inner = PolyLRScheduler(optimizer, 0.5, EPOCHS)
    schedule = RoundSchedule(inner, optimizer, EPOCHS, 0, lambda epoch: (0, EPOCHS))
    assert schedule.max_steps == EPOCHS
    with pytest.raises(AttributeError):
        _ = schedule.nothing
