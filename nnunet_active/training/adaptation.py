"""What happens to the weights beside the optimizer's own steps: average, interpolation, new beginning.

**Average** (Polyak & Juditsky 1992; as the teacher of Tarvainen & Valpola, NeurIPS 2017): after each step a <- d a + (1 - d) w, with
a = w0, the source weights, at first [choice: no ramp of d, so that it leaves the source slowly]. The average predicts (validation,
queries, final network), the weights themselves are trained on. Floating-point buffers are averaged too, others copied.

It happens in a hook of the optimizer, so that it sees every step that is made and none that the gradient scaler skips, in any trainer.

**Interpolation** (WiSE-FT: Wortsman et al., CVPR 2022): the weights that predict are w0 + alpha (v - w0), where v are the weights that
are trained on, or their average where there is one. The training itself does not change. Output layers with a class that the source
does not know, and what is no floating-point number, are v: halfway to a head that knows nothing is no head.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.optim import Optimizer

from nnunet_active.training.weights import Weights, copy_weights, follow, interpolate, live_weights, put_weights


class Adaptation:
    """The weights of one training; build it when the network is the source network.

    Args:
        network: may be compiled or wrapped for DDP.
        decay: d in [0, 1), or None: no average.
        free: names of parameters that are not interpolated.
        interpolation: alpha in [0, 1]; 1: none. May be set anew while the network does not predict.
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
        """Whether all of the network is interpolated, so that interpolation 0 is the source network."""
        return not self._free

    def attach(self, optimizer: Optimizer) -> None:
        """Follow the steps of an optimizer (idempotent); a trainer may make itself a new one between epochs."""
        if optimizer is self._optimizer:
            return
        self._optimizer = optimizer
        if self._average is not None:
            optimizer.register_step_post_hook(lambda *_: follow(self._average, self._live, self.decay))

    @contextmanager
    def predicting(self) -> Iterator[None]:
        """The network with the weights that predict: average, interpolation, or the weights themselves. May be nested."""
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
        """The network with other weights, for a while: those of :attr:`source`, or of a checkpoint."""
        kept = copy_weights(self.network)
        put_weights(self.network, weights)
        try:
            yield
        finally:
            put_weights(self.network, kept)

    @contextmanager
    def at(self, alpha: float, weights: Weights | None = None) -> Iterator[None]:
        """The network with another interpolation, for a while. Not to be entered while the network predicts.

        Args:
            alpha: how far from the source.
            weights: the end of that way; None: the weights of now.
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
        """Begin again from the source weights, with an optimizer that remembers nothing."""
        put_weights(self.network, self.source)
        if self._average is not None:
            self._average = copy_weights(self.network)
        optimizer.state.clear()

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs beside the weights that predict, on the CPU: the ``interpolation``, ``trained_weights``, where these
        are others, and ``averaged_weights``, where these are others again."""
        if self._average is None and self.interpolation == 1:
            return {"interpolation": 1.0}
        state = {"trained_weights": self._live if self._put_aside is None else self._put_aside}
        if self._average is not None and self.interpolation != 1:
            state["averaged_weights"] = self._average
        on_cpu = {key: {name: tensor.to("cpu", copy=True) for name, tensor in w.items()} for key, w in state.items()}
        return {"interpolation": self.interpolation, **on_cpu}

    def resume(self, state: Mapping[str, Any]) -> None:
        """After the weights that predict were loaded into the network: put them aside and go on with those that are trained on.

        Args:
            state: what :meth:`state` gave; empty: a checkpoint without, whose weights are both.
        """
        self.interpolation = state.get("interpolation", self.interpolation)
        if self._average is not None:
            self._average = copy_weights(self.network)
            if averaged := state.get("averaged_weights"):
                self._average = {name: averaged[name].to(tensor.device) for name, tensor in self._average.items()}
        if (trained := state.get("trained_weights")) and (self._average is not None or self.interpolation != 1):
            put_weights(self.network, trained)
