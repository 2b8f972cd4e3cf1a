"""Base class for choosing the interpolation alpha during a training: measures the networks at several alphas on labelled cases."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from nnunet_active.nnunet.safe_checkpoint import weights_digest
from nnunet_active.nnunet.window import Window
from nnunet_active.training.adaptation import Adaptation
from nnunet_active.training.earlier_training import EarlierTraining
from nnunet_active.training.session import QuerySession
from nnunet_active.training.source_comparison import Comparison, Measured
from nnunet_active.training.weights import live_weights


def model_at(alpha: float) -> str:
    """What the network at an alpha is called in ``comparison.csv``."""
    return f"alpha {alpha:g}"


class AlphaChoice:
    """Sets the interpolation of a training. All ranks call every method in the same order.

    Args:
        session: the campaign's side of the training.
        adaptation: the weights.
        window: makes a window on the network of ``adaptation``.
        comparison: measures Dice and keeps it, in rows of the model ``alpha A``.
    """

    def __init__(
        self, session: QuerySession, adaptation: Adaptation, window: Callable[[], Window], comparison: Comparison
    ) -> None:
        self.session, self.adaptation, self.window, self.comparison = session, adaptation, window, comparison
        self.latest: dict[str, Any] = {}
        """The last choice and its reasons; empty before the first choice."""
        self._noted_at = -1

    def begin(self, epoch: int, earlier_one: Callable[[], EarlierTraining | None]) -> None:
        """Called when a training begins or resumes at ``epoch``; ``earlier_one`` gives the fold's earlier training, if there is one."""

    def new_labels(self, epoch: int) -> None:
        """Called when the training cases of ``epoch`` are known, before the first step on them."""

    def choose(self, epoch: int) -> None:
        """Choose an alpha. Does nothing before the first epoch. Do not call it while the network predicts.

        Args:
            epoch: the epoch that is about to begin; at the end of the training, the number of epochs.
        """
        raise NotImplementedError

    def note(self, epoch: int, said: str, **choice: Any) -> None:
        """Keep a choice and log it for people and in the log file. The same choice at the same epoch is logged once."""
        if (epoch, choice) == (self._noted_at, self.latest):
            return
        self._noted_at, self.latest = epoch, choice
        self.session.log(said)
        self.session.event(epoch, "interpolation", **choice)

    def measure_alphas(
        self, epoch: int, cases: list[str], kind: str, alphas: Iterable[float], earlier: EarlierTraining | None = None
    ) -> None:
        """Measure Dice at every alpha, for the current network, an earlier training's, or a cross-fit one.

        Args:
            epoch: written into the rows.
            cases: held-out or newly labelled cases.
            kind: ``held_out``, ``prequential`` or ``cross_fit``.
            alphas: how far from the source.
            earlier: the training whose weights to measure; None for the current ones.
        """
        number, labelled = self.session.trained_on(epoch) if earlier is None else (0, len(earlier.labelled))
        for alpha in alphas:
            with self.adaptation.at(alpha, None if earlier is None else earlier.trained):
                fingerprint = weights_digest(live_weights(self.adaptation.network))
                network = Measured(model_at(alpha), fingerprint, number, epoch, labelled)
                self.comparison.measure(self.window(), network, cases, kind)
