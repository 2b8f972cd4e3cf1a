"""Compares the network with the source network during a training, and tells the user which one is better."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nnunet_active.data.label_agreement import is_accepted
from nnunet_active.nnunet.safe_checkpoint import weights_digest
from nnunet_active.nnunet.window import Window
from nnunet_active.training.adaptation import Adaptation
from nnunet_active.training.certificate_table import CERTIFICATE_FILE
from nnunet_active.training.comparison_table import ADAPTED, HELD_OUT, KEPT_SOURCE, PREQUENTIAL, SOURCE, Gain
from nnunet_active.training.earlier_training import EarlierTraining
from nnunet_active.training.pool_certificate import MOST_CERTIFIED, PoolCertificate, TwoNetworks, drawn_cases
from nnunet_active.training.session import QuerySession
from nnunet_active.training.source_comparison import Comparison, Measured
from nnunet_active.training.weights import Weights, live_weights


def judging(session: QuerySession, cases: Iterable[str]) -> list[str]:
    """The cases whose label somebody drew. A prediction accepted unchanged would favour the network that made it."""
    known = session.campaign.ingested
    return [case for case in cases if not is_accepted(known.get(case, {}))]


class SourceWatch:
    """Compares the source network with the adapted one at the right moments. All ranks call every method in the same order.

    Args:
        session: the campaign's side of the training.
        adaptation: the weights; the adapted network is the one that predicts.
        window: makes a window on the network of ``adaptation``.
        comparison: measures Dice and keeps it in the training's output folder.
    """

    def __init__(
        self, session: QuerySession, adaptation: Adaptation, window: Callable[[], Window], comparison: Comparison
    ) -> None:
        self.session, self.adaptation, self.window, self.comparison = session, adaptation, window, comparison
        self.folder = comparison.file.parent
        self.trained_on: set[str] = set()
        """Cases that the network was trained on; in a continued training they come from its checkpoint."""
        self._source = weights_digest(adaptation.source)

    def begin(self, earlier_one: Callable[[], EarlierTraining | None]) -> None:
        """At epoch 0, measure an earlier training's network on the labels that came in since.

        Args:
            earlier_one: gives the earlier training of the fold; called only if no case is held out.
        """
        if self.session.held_out(0):
            return
        if earlier := earlier_one():
            new = judging(self.session, (case for case in self.session.labelled(0) if case not in earlier.labelled))
            if new:
                self._measure(PREQUENTIAL, new, earlier.epoch, len(earlier.labelled), earlier.predicting)
                if (gain := self.comparison.gain(PREQUENTIAL)).cases:  # none if that network was the source
                    self._tell(0, gain)

    def after_round(self, epoch: int) -> None:
        """Measure the held-out cases, before a query during the training and at its end."""
        cases = judging(self.session, self.session.held_out(epoch))
        if epoch > 0 and cases:
            number, labelled = self.session.trained_on(epoch)
            self._measure(HELD_OUT, cases, epoch, labelled)
            self._tell(epoch, self.comparison.gain(HELD_OUT, number, epoch))

    def new_labels(self, epoch: int) -> None:
        """If nothing is held out, measure the cases that are first trained on at ``epoch``, whether asked for or not."""
        new = sorted(set(self.session.labelled(epoch)) - self.trained_on)
        cases = judging(self.session, new)
        if cases and epoch > 0 and not self.session.held_out(epoch):  # at epoch 0 both networks are the same
            self._measure(PREQUENTIAL, cases, epoch, len(self.trained_on))
            self._tell(epoch, self.comparison.gain(PREQUENTIAL))
        self.trained_on.update(new)

    def end(self, epoch: int) -> None:
        """After the last epoch, report the comparison and the bound for the unlabelled cases."""
        if self.session.held_out(epoch):
            self.after_round(epoch)
        else:
            self._tell(epoch, self.comparison.gain(PREQUENTIAL))
        self._certify(epoch)

    def _certify(self, epoch: int) -> None:
        """Bound how much the two networks can differ on unlabelled cases."""
        session, comparison, adaptation = self.session, self.comparison, self.adaptation
        unlabelled = session.unlabelled(epoch)
        number = min(MOST_CERTIFIED, epoch)
        cases = drawn_cases(session.store.identifiers(), unlabelled, number, session.campaign.settings.seed)
        with adaptation.predicting():
            name = weights_digest(live_weights(adaptation.network))
        networks = TwoNetworks(
            self.window(),
            lambda: adaptation.replaced(adaptation.source),
            adaptation.predicting,
            (name, self._source),
            epoch,
            session.trained_on(epoch)[1],
        )
        file = self.folder / CERTIFICATE_FILE
        certificate = PoolCertificate(file, session.store, comparison.labels, comparison.ranks, session.log)
        if (found := certificate.measure(networks, cases, len(unlabelled))) is None:
            return
        if not adaptation.is_source:
            session.log(
                f"{found.sentence} They differ most in {found.furthest}: mean Jaccard distance {found.distance:.3f}."
            )
        session.event(epoch, "certificate", cases=found.cases, pool=found.pool, bound=found.bound)

    def _measure(self, kind: str, cases: list[str], epoch: int, labelled: int, weights: Weights | None = None) -> None:
        window = self.window()
        with self.adaptation.replaced(self.adaptation.source):
            self.comparison.measure(window, Measured(SOURCE, self._source), cases, kind)
        adapted = self.adaptation.predicting() if weights is None else self.adaptation.replaced(weights)
        with adapted:
            fingerprint = weights_digest(live_weights(self.adaptation.network))
            number = self.session.trained_on(epoch)[0] if weights is None else 0
            self.comparison.measure(window, Measured(ADAPTED, fingerprint, number, epoch, labelled), cases, kind)

    def _tell(self, epoch: int, gain: Gain) -> None:
        # at epoch 0 an earlier training's network was measured, not the one of now
        for line in [KEPT_SOURCE] if epoch > 0 and self.adaptation.is_source else gain.lines():
            self.session.log(line)
        facts = {name: getattr(gain, name) for name in ("kind", "cases", "source", "adapted", "worse")}
        known = {name: value for name, value in facts.items() if value == value}  # JSON knows no NaN
        self.session.event(epoch, "comparison", **known)
