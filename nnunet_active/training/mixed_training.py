r"""Training with the unlabelled pool (``unlabelled=mix``): each step also learns from mixtures of labelled and unlabelled samples.

    loss = L(labelled) + \lambda (L(mixed one way) + L(mixed the other way)),
    \lambda = `WEIGHT` min(1, elapsed share of the training / `RAMP`)

(of the round, if each round restarts from the source). L is the trainer's own loss; in mixed samples it ignores voxels that do not
count (:mod:`~nnunet_active.training.unlabelled_mix`). The teacher's probabilities of an unlabelled sample are

    p = 1/2 p(source network) + 1/2 p(running mean of the weights in training, with the decay `DECAY`),

so both halves start as the source network. Unlabelled samples come from the stored images of unlabelled cases. If the campaign asks for
slices, they also come from labelled cases, since these are labelled only in part.

A step makes three forward and backward passes instead of one, plus the teacher's two forward passes. They come one after the other,
and their gradients add up, so that activations take as much memory as in plain training; the teachers take two networks' weights more.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import nullcontext
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
            "Fine-tuning: with unlabelled=mix a step costs about three to four passes through the network instead of one."
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

    def step(self, batch: dict, stock: Callable[[dict], dict]) -> dict:
        """A step of the trainer that also learns from mixed samples; then the running mean follows.

        The gradients of mixed samples are computed first, right after the trainer's step has cleared the old ones, and that step adds
        its own. So one graph is held at a time, and clipping and the gradient scaler see the sum.

        Args:
            batch: nnU-Net's batch of labelled samples.
            stock: the trainer's own step, which takes it.

        Returns:
            What ``stock`` returned, with the whole loss.

        Raises:
            RuntimeError: ``stock`` did not clear the gradients exactly once.
        """
        trainer, optimizer, learned = self.trainer, self.trainer.optimizer, []
        batch = {**batch, **{name: _moved(batch[name], trainer.device) for name in ("data", "target")}}
        clear = optimizer.zero_grad

        def clear_and_learn(*given: Any, **named: Any) -> None:
            clear(*given, **named)
            learned.append(self.learn(batch["data"], batch["target"]))

        optimizer.zero_grad = clear_and_learn
        try:
            result = stock(batch)
        finally:
            del optimizer.zero_grad
        if len(learned) != 1:
            raise RuntimeError(
                f"{type(trainer).__name__}'s training step cleared the gradients {len(learned)} times; with unlabelled=mix, it has to "
                f"do so once, before its forward pass."
            )
        self.follow()
        return {**result, "loss": result["loss"] + learned[0].cpu().numpy()}

    def learn(self, data: Tensor, target: Tensor | list[Tensor]) -> Tensor:
        """Add the gradients of the mixed samples to those that the weights have, in the trainer's precision.

        Args:
            data: labelled samples (N, channels, ...), on the trainer's device.
            target: nnU-Net's target, there as well; a list with deep supervision.

        Returns:
            Lambda times their loss.
        """
        trainer, scaler, losses = self.trainer, self.trainer.grad_scaler, []
        # as in nnU-Net's own step
        precision = torch.autocast("cuda") if trainer.device.type == "cuda" else nullcontext()
        with precision:
            samples = self._mixed(data, target)
        # under DDP, the trainer's own backward pass averages the sum over the processes
        with getattr(trainer.network, "no_sync", nullcontext)():
            for image, wanted in samples:
                with precision:
                    loss = self.weight * self._loss(trainer.network(image), wanted)
                (loss if scaler is None else scaler.scale(loss)).backward()
                losses.append(loss.detach())
        return torch.stack(losses).sum()

    def _mixed(self, data: Tensor, target: Tensor | list[Tensor]) -> list[tuple[Tensor, Tensor | list[Tensor]]]:
        """Samples mixed both ways, with their targets."""
        other = _moved(next(self.trainer.dataloader_unlabelled)["data"], self.trainer.device)
        guess, sure = sure_guess(self.teach(other), self.thresholds)
        strong, inside = strong_view(other, self._masked), boxes(other.shape, other.device)
        labelled = target if isinstance(target, Tensor) else target[0]
        return [
            (
                torch.where(part, data, strong),
                at_scales(mixed_target(part, labelled, guess, sure, self._ignored), target),
            )
            for part in (inside, ~inside)
        ]

    def follow(self) -> None:
        """After a step: the running mean follows the weights in training."""
        follow(live_weights(self._mean), live_weights(self.trainer.network), DECAY)
        self._step += 1

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


def _moved(found: Any, device: torch.device) -> Any:
    """Tensors on a device; a list stays one."""
    if isinstance(found, Tensor):
        return found.to(device, non_blocking=True)
    return [_moved(one, device) for one in found]


def _frozen_copy(network: nn.Module) -> nn.Module:
    return copy.deepcopy(unwrap(network)).eval().requires_grad_(False)
