"""Restarts a trainer's own learning rate schedule with each round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class RoundSchedule:
    """Wraps the schedule that a trainer made; nnU-Net calls ``step(epoch)`` before each epoch.

    In a training of E epochs, each round [start, end) runs through the whole schedule lr(0), ..., lr(E - 1):
    ``lr_round(e) = lr((e - start) E / (end - start))``. A single round [0, E) leaves the schedule unchanged. nnU-Net's poly schedule
    becomes ``lr0 (1 - (e - start) / (end - start))^0.9``.

    Args:
        inner: the trainer's schedule.
        epochs: E.
        round_of: gives (start, end) of the round that an epoch belongs to.
    """

    def __init__(self, inner: Any, epochs: int, round_of: Callable[[int], tuple[int, int]]) -> None:
        self.inner, self.epochs, self.round_of = inner, epochs, round_of

    def step(self, epoch: int | None = None) -> None:
        """Set the learning rates for an epoch."""
        if epoch is None:
            self.inner.step()
            return
        start, end = self.round_of(epoch)
        self.inner.step(epoch if (start, end) == (0, self.epochs) else (epoch - start) * self.epochs / (end - start))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["inner"], name)
