"""The learning rate of an epoch: the trainer's own schedule, warmed up at its beginning, and begun anew with each round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer


class RoundSchedule:
    """Wraps the schedule that a trainer made; nnU-Net calls ``step(epoch)`` before each epoch.

    With a round that covers the epochs [start, end) of a training of E epochs, the schedule lr(0), ..., lr(E - 1) is run through within
    the round: ``lr_round(e) = lr((e - start) E / (end - start))``; the round [0, E) is the schedule as it is. nnU-Net's poly schedule
    thus becomes ``lr0 (1 - (e - start) / (end - start))^0.9``. Warm-up over W epochs multiplies it by
    ``min(1, (e - start + 1) / (W + 1))``.

    Args:
        inner: the trainer's schedule.
        optimizer: whose learning rates it sets.
        epochs: E.
        warmup: W.
        round_of: first epoch and end of the round of an epoch.
    """

    def __init__(
        self,
        inner: Any,
        optimizer: Optimizer,
        epochs: int,
        warmup: int,
        round_of: Callable[[int], tuple[int, int]],
    ) -> None:
        self.inner, self.optimizer, self.epochs, self.warmup, self.round_of = inner, optimizer, epochs, warmup, round_of
        self._own: list[float] | None = None

    def step(self, epoch: int | None = None) -> None:
        """Set the learning rates of an epoch."""
        if epoch is None:
            self.inner.step()
            return
        start, end = self.round_of(epoch)
        groups = self.optimizer.param_groups
        if self._own is not None:  # some schedules go on from the last rate, and ours is not theirs
            for group, lr in zip(groups, self._own, strict=True):
                group["lr"] = lr
        self.inner.step(epoch if (start, end) == (0, self.epochs) else (epoch - start) * self.epochs / (end - start))
        self._own = [group["lr"] for group in groups]
        if epoch - start < self.warmup:
            for group in groups:
                group["lr"] *= (epoch - start + 1) / (self.warmup + 1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["inner"], name)
