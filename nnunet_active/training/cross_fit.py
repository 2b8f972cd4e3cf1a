r"""Cross-fitting: short extra trainings that each leave out some labelled cases, so that these cases can judge the recipe.

A network cannot be judged by the cases that it was trained on. Cross-fitting gives every labelled case a network that has not seen it,
also in the first round. The labelled cases are divided into folds. For each fold, a network is trained from the source weights on all
other labelled cases, and its Dice is measured at every alpha on those of the fold: d_i(alpha) of
:mod:`~nnunet_active.training.guarded_choice`.

* **Folds**: one case each for up to `LEAVE_ONE_OUT` cases, two halves for more. Cases of one patient (``--groups``) stay together. A
  fold is skipped if the network of an earlier training has judged all of its cases.
* **Trainings**: they use the trainer's own loaders, augmentation, loss and optimizer, for half the epochs of the first round (at least
  1). The learning rate follows the same schedule at twice the speed. There are no pseudo-labels yet. They have seen less than the
  real one, so they err towards the source.
* **With ``unlabelled=mix``** and requests drawn from the pool there are none, unless ``cross_fit=true`` asks for them. These
  networks do not learn from unlabelled cases, and misjudge one that does: in twelve networks of three whole scans, m(0.75) was
  between -0.175 and +0.209, while the network itself gained in all (``gate_mixed.csv``). Those that did learn from them judged
  alike (glioma and diseased hearts, one run each), at three times the cost.
* Afterwards the trainer is as it was: the training that follows is the same to the bit.

Source: HOSO (arXiv 2603.04341) chooses a blending ratio by one case that was not trained on. Folds and lengths are our choice.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunet_active.data.patients import Patients
from nnunet_active.training.adaptation import Adaptation
from nnunet_active.training.comparison_table import CROSS_FIT
from nnunet_active.training.earlier_training import EarlierTraining
from nnunet_active.training.guarded_choice import ENOUGH, GuardedChoice, may_go_far
from nnunet_active.training.schedule import RoundSchedule
from nnunet_active.training.source_watch import judging
from nnunet_active.training.untouched import untouched
from nnunet_active.training.weights import Weights, copy_weights, put_weights
from nnunet_active.util.atomic import write_json
from nnunet_active.util.state_file import read_remade_json

LEAVE_ONE_OUT = 3
"""Cases (or patients) up to which each is a fold of its own."""
RECORD = "cross_fit.json"
"""What the rows of `comparison.csv` were made from; they count for nothing else."""
_STEPS = 5  # that say how long it takes; the very first does not count, which compiles and warms up


def folds_of(cases: Sequence[str], patients: Patients, seed: int) -> list[list[str]]:
    """Who is left out together; empty where nobody can be.

    >>> folds_of(["a", "b", "c"], Patients(), 0)
    [['a'], ['b'], ['c']]
    """
    groups = list(patients.cases_of(cases).values())
    if len(groups) < 2:
        return []
    if len(groups) <= LEAVE_ONE_OUT:
        return groups
    order = random.Random(f"cross-fit {seed}").sample(groups, len(groups))
    return [sorted(case for group in order[start::2] for case in group) for start in range(2)]


class CrossFit:
    """The cross-fit networks of one training. All ranks call every method in the same order.

    Args:
        trainer: an active trainer whose network is the source network, before its first epoch.
        choice: is told of what they show.
    """

    def __init__(self, trainer: Any, choice: GuardedChoice) -> None:
        self.trainer, self.choice, self.session = trainer, choice, trainer.session
        self.first_round = self.session.round_epochs(0, trainer.num_epochs)[1]
        self.epochs = max(1, self.first_round // 2)
        self._told = False

    def run(self) -> None:
        """Train and measure what is not known yet, unless there is no need, or nothing to be had."""
        session, labelled = self.session, self.session.labelled(0)
        able = set(judging(session, labelled))
        folds = folds_of(labelled, session.campaign.settings.patients, session.campaign.settings.seed)
        if why := self._why_not(folds, able):
            session.log(f"Cross-fit: none, {why}.")
            self._begin({})
            return
        self._begin(self._made_from(folds))
        able -= self.choice.judged_without_cross_fit()
        missing = [n for n, fold in enumerate(folds) if not self.choice.knows(sorted(able & set(fold)))]
        if not missing:
            return
        epochs = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        trainings = "1 extra training" if len(missing) == 1 else f"{len(missing)} extra trainings"
        session.log(
            f"Cross-fit: {trainings} of {epochs} first (the first round of this one has {self.first_round}). The cases "
            "that they leave out then tell how far to leave the source."
        )
        self.trainer.save_here()
        began = time.perf_counter()
        for number in missing:
            rest = sorted(set(labelled) - set(folds[number]))
            with untouched(self.trainer):
                weights = self._train(number, rest, len(missing))
            network = EarlierTraining(weights, weights, frozenset(rest), self.epochs)
            self.choice.measure(self.epochs, sorted(able & set(folds[number])), CROSS_FIT, network)
        seconds = time.perf_counter() - began
        session.log(f"Cross-fit: done in {_long(seconds)}.")
        session.event(0, "cross_fit", folds=folds, trained=len(missing), epochs=self.epochs, seconds=seconds)

    def _why_not(self, folds: list[list[str]], able: set[str]) -> str:
        if not self.trainer.fine_tuning.is_cross_fitted:
            return "it is switched off"
        mixing, asked = self.trainer.mixing, self.session.campaign.settings.strategy
        mixed = mixing is not None and mixing.has_cases(0)
        if self.trainer.fine_tuning.cross_fit is None and may_go_far(mixed, asked):
            return (
                "networks that learn from labelled cases alone say nothing of one that learns from unlabelled ones, too"
            )
        if len(able) < 2 or not folds:
            return "it takes two labelled cases, of two patients, one to train on and one to judge"
        known = len(self.choice.judged_without_cross_fit())
        return f"{known} cases judge without it" if known >= ENOUGH else ""

    def _made_from(self, folds: list[list[str]]) -> dict[str, Any]:
        """All that decides the networks and their Dice."""
        trainer, settings = self.trainer, self.session.campaign.settings
        comparison = self.choice.comparison
        return {
            "folds": folds,
            "labels": self.session.ranks.decide(
                lambda: {case: comparison.reference(case, CROSS_FIT)[1] for fold in folds for case in fold}
            ),
            "source": self.choice.source,
            "epochs": [self.epochs, self.first_round, trainer.num_epochs],
            "iterations": trainer.num_iterations_per_epoch,
            "lr": trainer.initial_lr,
            "seed": settings.seed,
            "restart": trainer.restart,
            "ema_epochs": trainer.fine_tuning.ema_epochs,
        }

    def _begin(self, made_from: dict[str, Any]) -> None:
        """Rows that were made from anything else are forgotten; first these, so that a kill leaves none that seem to be ours."""
        file = Path(self.trainer.output_folder) / RECORD
        if made_from and self.session.ranks.decide(lambda: read_remade_json(file)) == made_from:
            return
        self.choice.comparison.forget(CROSS_FIT)
        if made_from:
            self.session.ranks.decide(lambda: write_json(file, made_from))

    def _train(self, number: int, cases: list[str], trainings: int) -> Weights:
        """The weights of a network that was trained on ``cases``, or their average where the recipe averages."""
        trainer, session = self.trainer, self.session
        put_weights(trainer.network, trainer.adaptation.source)
        trainer.do_split = lambda: (cases, cases)
        session.seed(0, number + 1)
        wrapped = trainer.network
        trainer.network = wrapped.module if trainer.is_ddp else wrapped  # as it is when the trainer itself asks
        trainer.optimizer, schedule = trainer.configure_optimizers()
        trainer.network = wrapped
        if trainer.restart == "source":
            schedule = RoundSchedule(schedule, trainer.num_epochs, lambda epoch: (0, self.first_round))
        trainer.lr_scheduler, trainer.grad_scaler = schedule, copy.deepcopy(trainer.grad_scaler)
        way = Adaptation(trainer.network, trainer.adaptation.decay)
        way.attach(trainer.optimizer)
        trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
        trainer.dataloader_train, trainer.dataloader_val = trainer.get_dataloaders()
        began, steps = time.perf_counter(), 0
        for epoch in range(self.epochs):
            session.seed(epoch, number + 1)
            trainer.network.train()
            trainer.lr_scheduler.step(epoch * self.first_round / self.epochs)
            for _ in range(trainer.num_iterations_per_epoch):
                trainer.train_step(next(trainer.dataloader_train))
                steps += 1
                if steps == 1:
                    began = time.perf_counter()
                if steps == 1 + _STEPS and not self._told:
                    each = (time.perf_counter() - began) / _STEPS
                    whole = each * trainings * self.epochs * trainer.num_iterations_per_epoch
                    session.log(f"Cross-fit: about {_long(whole)} in all, at {each:.2f} seconds a step.")
                    self._told = True
        with way.predicting():
            return copy_weights(trainer.network)


def _long(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
