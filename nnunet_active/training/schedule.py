"""The learning rate of an epoch: the trainer's own schedule, begun anew with each round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class RoundSchedule:
    """Wraps the schedule that a trainer made; nnU-Net calls ``step(epoch)`` before each epoch.

    With a round that covers the epochs [start, end) of a training of E epochs, the schedule lr(0), ..., lr(E - 1) is run through within
    the round: ``lr_round(e) = lr((e - start) E / (end - start))``; the round [0, E) is the schedule as it is. nnU-Net's poly schedule
    thus becomes ``lr0 (1 - (e - start) / (end - start))^0.9``.

    Args:
        inner: the trainer's schedule.
        epochs: E.
        round_of: first epoch and end of the round of an epoch.
    """

    def __init__(self, inner: Any, epochs: int, round_of: Callable[[int], tuple[int, int]]) -> None:
        self.inner, self.epochs, self.round_of = inner, epochs, round_of

    def step(self, epoch: int | None = None) -> None:
        """Set the learning rates of an epoch."""
        if epoch is None:
            self.inner.step()
            return
        start, end = self.round_of(epoch)
        self.inner.step(epoch if (start, end) == (0, self.epochs) else (epoch - start) * self.epochs / (end - start))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["inner"], name)
