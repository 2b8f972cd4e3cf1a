"""What fine-tuning does to the weights beside the optimizer steps: it averages, interpolates and restarts them.

**Average** (Polyak & Juditsky 1992; as the teacher of Tarvainen & Valpola, NeurIPS 2017): after each step, a <- d a + (1 - d) w. The
average starts at the source weights, a = w0 [choice: no ramp of d, so that a leaves the source slowly]. The average predicts
(validation, queries, final network); the optimizer goes on training w. Floating-point buffers are averaged too, others are copied.

The averaging runs in an optimizer hook. In any trainer, it therefore sees every step, and none that the gradient scaler skips.

**Interpolation** (WiSE-FT: Wortsman et al., CVPR 2022): the network predicts with w0 + alpha (v - w0), where v is the average if there
is one, else the trained weights. The training itself does not change. Two kinds of tensors stay at v: output layers with a class that
the source does not know (halfway to an untrained head would make no sense), and tensors that are not floating-point.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.optim import Optimizer

from nnunet_active.training.weights import Weights, copy_weights, follow, interpolate, live_weights, put_weights


class Adaptation:
    """The weights of one training. Build it while the network still has the source weights.

    Args:
        network: may be compiled or wrapped for DDP.
        decay: d in [0, 1); None for no average.
        free: names of parameters that are not interpolated.
        interpolation: alpha in [0, 1]; 1 means no interpolation. It may be changed while the network does not predict.
    """

    def __init__(
        self,
        network: nn.Module,
        decay: float | None = None,
        free: Collection[str] = (),
        interpolation: float = 1.0,
    ) -> None:
        self.network = network
        self.source: Weights = copy_weights(network, "cpu")
        self.decay, self.interpolation = decay, interpolation
        self._free = frozenset(free)
        self._live = live_weights(network)
        self._average: Weights | None = None if decay is None else copy_weights(network)
        self._put_aside: Weights | None = None
        self._optimizer: Optimizer | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the whole network is interpolated, its head included."""
        return not self._free

    @property
    def is_source(self) -> bool:
        """Whether the source network itself predicts: alpha is 0, and the whole network is interpolated."""
        return self.interpolation == 0 and self.is_whole

    def attach(self, optimizer: Optimizer) -> None:
        """Follow the steps of an optimizer (idempotent). A trainer may replace its optimizer between epochs."""
        if optimizer is self._optimizer:
            return
        self._optimizer = optimizer
        if self._average is not None:
            optimizer.register_step_post_hook(lambda *_: follow(self._average, self._live, self.decay))

    @contextmanager
    def predicting(self) -> Iterator[None]:
        """Give the network the weights that predict (averaged, interpolated, or as trained). May be nested."""
        if self._put_aside is not None or (self._average is None and self.interpolation == 1):
            yield
            return
        self._put_aside = copy_weights(self.network)
        try:
            put_weights(self.network, self._predicting())
            yield
        finally:
            put_weights(self.network, self._put_aside)
            self._put_aside = None

    def _predicting(self) -> Weights:
        weights = self._live if self._average is None else self._average
        return weights if self.interpolation == 1 else interpolate(self.source, weights, self.interpolation, self._free)

    @contextmanager
    def replaced(self, weights: Weights) -> Iterator[None]:
        """Give the network other weights for a while, such as :attr:`source` or those of a checkpoint."""
        kept = copy_weights(self.network)
        put_weights(self.network, weights)
        try:
            yield
        finally:
            put_weights(self.network, kept)

    @contextmanager
    def at(self, alpha: float, weights: Weights | None = None) -> Iterator[None]:
        """Give the network another interpolation for a while. Do not enter it while the network predicts.

        Args:
            alpha: how far from the source; 1 is ``weights``.
            weights: v in the formula above; None for the current weights.
        """
        if weights is not None:
            way = weights if alpha == 1 else interpolate(self.source, weights, alpha, self._free)
            with self.replaced(way):
                yield
            return
        before, self.interpolation = self.interpolation, alpha
        try:
            with self.predicting():
                yield
        finally:
            self.interpolation = before

    def restart(self, optimizer: Optimizer) -> None:
        """Begin again from the source weights and clear the optimizer's state."""
        put_weights(self.network, self.source)
        if self._average is not None:
            self._average = copy_weights(self.network)
        optimizer.state.clear()

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs beside the weights that predict, on the CPU: ``interpolation`` and, where that is not
        1, :attr:`is_source`; ``trained_weights`` if they differ from those; ``averaged_weights`` if they differ from both."""
        if self._average is None and self.interpolation == 1:
            return {"interpolation": 1.0}
        state = {"trained_weights": self._live if self._put_aside is None else self._put_aside}
        if self._average is not None and self.interpolation != 1:
            state["averaged_weights"] = self._average
        on_cpu = {key: {name: tensor.to("cpu", copy=True) for name, tensor in w.items()} for key, w in state.items()}
        return {"interpolation": self.interpolation, "is_source": self.is_source, **on_cpu}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on training after a checkpoint's predicting weights were loaded into the network: put the trained weights in their place.

        Args:
            state: what :meth:`state` gave; empty if the checkpoint has none, because its weights were both trained and predicting.
        """
        self.interpolation = state.get("interpolation", self.interpolation)
        if self._average is not None:
            self._average = copy_weights(self.network)
            if averaged := state.get("averaged_weights"):
                self._average = {name: averaged[name].to(tensor.device) for name, tensor in self._average.items()}
        if (trained := state.get("trained_weights")) and (self._average is not None or self.interpolation != 1):
            put_weights(self.network, trained)
