from __future__ import annotations

import pytest
import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

from nnunet_active.training.schedule import RoundSchedule

EPOCHS = 10


def rates(rounds: list[tuple[int, int]], order=range(EPOCHS)) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    inner = PolyLRScheduler(optimizer, 0.5, EPOCHS)

    def round_of(epoch: int) -> tuple[int, int]:
        return next((start, end) for start, end in rounds if start <= epoch < end)

    schedule = RoundSchedule(inner, EPOCHS, round_of)
    found = []
    for epoch in order:
        schedule.step(epoch)
        found.append(optimizer.param_groups[0]["lr"])
    return found


def poly(x: float) -> float:
    return 0.5 * (1 - x) ** 0.9


def test_one_round_is_the_trainers_own_schedule():
    assert rates([(0, EPOCHS)]) == [poly(epoch / EPOCHS) for epoch in range(EPOCHS)]


def test_each_round_runs_through_the_whole_schedule():
    expected = [poly(e / 4) for e in range(4)] + [poly(e / 6) for e in range(6)]
    assert rates([(0, 4), (4, 10)]) == pytest.approx(expected)


def test_a_resumed_training_finds_the_same_rates():
    rounds = [(0, 4), (4, 10)]
    assert rates(rounds, order=[5, 6, 7]) == rates(rounds)[5:8]


def test_other_attributes_are_those_of_the_inner_schedule():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    inner = PolyLRScheduler(optimizer, 0.5, EPOCHS)
    schedule = RoundSchedule(inner, EPOCHS, lambda epoch: (0, EPOCHS))
    assert schedule.max_steps == EPOCHS
    with pytest.raises(AttributeError):
        _ = schedule.nothing
