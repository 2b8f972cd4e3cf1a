"""What every way of choosing the interpolation in a training shares: the networks at several alpha, measured on cases."""

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
        comparison: where Dice is measured and kept; rows of the model ``alpha A``.
    """

    def __init__(
        self, session: QuerySession, adaptation: Adaptation, window: Callable[[], Window], comparison: Comparison
    ) -> None:
        self.session, self.adaptation, self.window, self.comparison = session, adaptation, window, comparison
        self.latest: dict[str, Any] = {}
        """What was chosen last, and why; empty: nothing yet."""
        self._noted_at = -1

    def begin(self, epoch: int, earlier_one: Callable[[], EarlierTraining | None]) -> None:
        """As a training begins, or goes on at ``epoch``; ``earlier_one`` gives the earlier training of the fold, if there is one."""

    def new_labels(self, epoch: int) -> None:
        """As the cases that are trained on from ``epoch`` on are known, before the first step on them."""

    def choose(self, epoch: int) -> None:
        """Take an alpha; nothing happens before the first epoch.

        Args:
            epoch: the epoch that is about to begin, or the number of epochs at the end. Not to be called while the network predicts.
        """
        raise NotImplementedError

    def note(self, epoch: int, said: str, **choice: Any) -> None:
        """Keep a choice, tell people and the log file; one that is made again at the same epoch was told before."""
        if (epoch, choice) == (self._noted_at, self.latest):
            return
        self._noted_at, self.latest = epoch, choice
        self.session.log(said)
        self.session.event(epoch, "interpolation", **choice)

    def measure_alphas(
        self, epoch: int, cases: list[str], kind: str, alphas: Iterable[float], earlier: EarlierTraining | None = None
    ) -> None:
        """Dice of the network of now, of an earlier training's or of a cross-fit one, at every alpha.

        Args:
            epoch: what the rows say.
            cases: held-out or newly labelled ones.
            kind: ``held_out``, ``prequential`` or ``cross_fit``.
            alphas: how far from the source.
            earlier: whose weights; None: those of now.
        """
        number, labelled = self.session.trained_on(epoch) if earlier is None else (0, len(earlier.labelled))
        for alpha in alphas:
            with self.adaptation.at(alpha, None if earlier is None else earlier.trained):
                fingerprint = weights_digest(live_weights(self.adaptation.network))
                network = Measured(model_at(alpha), fingerprint, number, epoch, labelled)
                self.comparison.measure(self.window(), network, cases, kind)
