r"""Training with the unlabelled pool (``unlabelled=mix``): each step also learns from mixtures of labelled and unlabelled samples.

    loss = L(labelled) + \lambda (L(mixed one way) + L(mixed the other way)),
    \lambda = `WEIGHT` min(1, elapsed share of the training / `RAMP`)

(of the round, if each round restarts from the source). L is the trainer's own loss; in mixed samples it ignores voxels that do not
count (:mod:`~nnunet_active.training.unlabelled_mix`). The teacher's probabilities of an unlabelled sample are

    p = 1/2 p(source network) + 1/2 p(running mean of the weights in training, with the decay `DECAY`),

so both halves start as the source network. Unlabelled samples come from the stored images of unlabelled cases. If the campaign asks for
slices, they also come from labelled cases, since these are labelled only in part.

A step makes three forward and backward passes instead of one, plus the teacher's two forward passes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nnunet_active.data.ignore_label import with_ignore_label
from nnunet_active.scoring.encoder import unwrap
from nnunet_active.scoring.ensemble import head_probabilities
from nnunet_active.training.unlabelled_mix import (
    ConfidenceCounts,
    at_scales,
    boxes,
    mixed_target,
    strong_view,
    sure_guess,
)
from nnunet_active.training.weights import copy_weights, follow, live_weights, put_weights

WEIGHT, RAMP, DECAY = 0.5, 0.8, 0.99
MOST_MEASURED = 20
"""Most cases that the thresholds are measured on."""
STATE = "unlabelled_mix"
"""Name in a checkpoint's own details."""


class MixedTraining:
    """The unlabelled side of one training. All ranks call every method in the same order; each rank draws its own samples.

    Args:
        trainer: an active trainer whose network is the source network.

    Attributes:
        cases: cases that unlabelled samples are drawn from now; empty for plain training.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.cases: tuple[str, ...] = ()
        self.thresholds: Tensor | None = None
        # separate networks: the weights of the one in training must not change between a forward pass and its backward pass
        self._source, self._mean = (_frozen_copy(trainer.network) for _ in range(2))
        self._regions = trainer.label_manager.has_regions
        self._masked = any(trainer.configuration_manager.use_mask_for_norm)
        self._loss, self._ignored = self._build_loss()
        self._step = 0
        self._said: set[str] = set()

    def _build_loss(self) -> tuple[Any, int | None]:
        """The trainer's own loss, built as for a data set with an ignore label, even if this one has none; and the label's value."""
        trainer, own = self.trainer, self.trainer.label_manager
        declared = trainer.plans_manager.get_label_manager(with_ignore_label(trainer.dataset_json))
        trainer.label_manager = declared
        try:
            return trainer._build_loss(), None if self._regions else declared.ignore_label
        finally:
            trainer.label_manager = own

    def prepare(self, epoch: int) -> None:
        """Set the cases to draw from, before the loaders of an epoch are made; the first time, also measure the thresholds."""
        session = self.trainer.session
        self.cases = tuple(session.ranks.decide(lambda: self._pool(epoch)))
        if not self.cases:
            self._say(
                "Fine-tuning: no unlabelled case is there, so that training goes on with the labelled ones alone."
            )
            return
        if self.thresholds is None:
            self.thresholds = session.ranks.decide(self._measure)
        self.thresholds = self.thresholds.to(self.trainer.device)
        self._say(
            "Fine-tuning: with unlabelled=mix a step costs about three to four passes through the network instead of one, and "
            "about three times its memory."
        )

    def has_cases(self, epoch: int) -> bool:
        """Whether there are unlabelled cases to draw from in this epoch."""
        return bool(self.trainer.session.ranks.decide(lambda: self._pool(epoch)))

    def _pool(self, epoch: int) -> list[str]:
        session = self.trainer.session
        in_part = session.labelled(epoch) if session.campaign.asks_for_slices else []
        return sorted({*session.unlabelled(epoch), *in_part})

    def _measure(self) -> Tensor:
        trainer, looked_at = self.trainer, self.cases[:: -(-len(self.cases) // MOST_MEASURED)]
        counts = ConfidenceCounts(trainer.label_manager.num_segmentation_heads, self._regions)
        window = trainer.session.window(self._source, trainer.device)
        for case in looked_at:
            with window.slabs(trainer.session.store.load_image(case)) as slabs:
                for slab in slabs:
                    counts.add(slab.logits)
        return counts.thresholds()

    def _say(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self.trainer.session.log(sentence)

    def begin_epoch(self) -> None:
        """Start counting the steps of an epoch."""
        self._step = 0

    def restart(self) -> None:
        """Reset the running mean to the source weights, as the network was."""
        put_weights(self._mean, live_weights(self._source))

    @property
    def weight(self) -> float:
        """Lambda of the formula above."""
        trainer, epoch = self.trainer, self.trainer.current_epoch
        start, end = trainer._round_epochs(epoch) if trainer.restart == "source" else (0, trainer.num_epochs)
        over = (epoch - start + self._step / trainer.num_iterations_per_epoch) / (end - start)
        return WEIGHT * min(1.0, over / RAMP)

    @contextmanager
    def joining(self, data: Tensor) -> Iterator[None]:
        """Add the loss of the mixed samples to the trainer's loss for one step, then update the running mean.

        The trainer's own step adds the losses up, in its own precision, and does one backward pass through the sum.

        Args:
            data: the labelled samples, on the trainer's device.
        """
        trainer, stock = self.trainer, self.trainer.loss
        trainer.loss = lambda output, target: stock(output, target) + self.weight * self._of_mixed(data, target)
        try:
            yield
        finally:
            trainer.loss = stock
        follow(live_weights(self._mean), live_weights(trainer.network), DECAY)
        self._step += 1

    def _of_mixed(self, data: Tensor, target: Tensor | list[Tensor]) -> Tensor:
        trainer = self.trainer
        other = next(trainer.dataloader_unlabelled)["data"].to(trainer.device, non_blocking=True)
        guess, sure = sure_guess(self.teach(other), self.thresholds)
        strong, inside = strong_view(other, self._masked), boxes(other.shape, other.device)
        labelled = target if isinstance(target, Tensor) else target[0]
        total = torch.zeros((), device=other.device)
        for part in (inside, ~inside):
            wanted = mixed_target(part, labelled, guess, sure, self._ignored)
            total = total + self._loss(trainer.network(torch.where(part, data, strong)), at_scales(wanted, target))
        return total

    @torch.no_grad()
    def teach(self, x: Tensor) -> Tensor:
        """The teacher's probabilities (N, C, ...) float32 of samples (N, channels, ...)."""
        outputs = [network(x) for network in (self._source, self._mean)]
        both = [head_probabilities(out if isinstance(out, Tensor) else out[0], self._regions, 1) for out in outputs]
        return (both[0] + both[1]) / 2

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold of the mixing, on the CPU."""
        thresholds = None if self.thresholds is None else self.thresholds.cpu()
        return {STATE: {"mean": copy_weights(self._mean, "cpu"), "thresholds": thresholds}}

    def resume(self, details: Mapping[str, Any]) -> None:
        """Restore what :meth:`state` gave; if a checkpoint has none, start from the source network."""
        if found := details.get(STATE):
            put_weights(self._mean, found["mean"])
            self.thresholds = found["thresholds"]


def _frozen_copy(network: nn.Module) -> nn.Module:
    return copy.deepcopy(unwrap(network)).eval().requires_grad_(False)
