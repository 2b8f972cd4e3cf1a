"""What an nnU-Net trainer does differently when it is fine-tuned: which weights predict, and what is compared with the source."""

from __future__ import annotations

import functools
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from nnunet_active.campaign.fine_tuning import FineTuning
from nnunet_active.models.weight_transfer import TransferReport
from nnunet_active.nnunet.safe_checkpoint import load_checkpoint, weights_digest
from nnunet_active.scoring.encoder import unwrap
from nnunet_active.training.adaptation import Adaptation
from nnunet_active.training.alpha_choice import AlphaChoice
from nnunet_active.training.checkpoints import meant_by, own_details
from nnunet_active.training.comparison_table import FILE
from nnunet_active.training.cross_fit import CrossFit
from nnunet_active.training.earlier_training import earlier_training
from nnunet_active.training.guarded_choice import GuardedChoice
from nnunet_active.training.held_out_choice import HeldOutChoice
from nnunet_active.training.loaders import finish_loader
from nnunet_active.training.mixed_training import MixedTraining
from nnunet_active.training.schedule import RoundSchedule
from nnunet_active.training.session import QuerySession
from nnunet_active.training.source_comparison import Comparison, Origin
from nnunet_active.training.source_watch import SourceWatch
from nnunet_active.util.ranks import Ranks

_NOT_OURS = "it was not written by a training of this package; train without --c, or put your own checkpoint back"


class FineTunedMixin:
    """Put it before an nnU-Net trainer class, which sets the attributes.

    Attributes:
        fine_tuning: the settings.
        restart: ``never`` or ``source``.
        adaptation: the weights, from ``initialize`` on.
        session: the campaign's side, which knows the rounds, from ``initialize`` on.
        mixing: the unlabelled side of the training; None without it.
        comparison: what both of them measure; None without them.
        watch: compares with the source network; None where that is switched off.
        choice: chooses the interpolation; None where it is fixed.
        trained_on: cases that a loaded checkpoint was trained on.
        can_go_on: whether ``--c`` would go on with this training: it has saved a checkpoint, or began with one.
    """

    fine_tuning: FineTuning
    restart: str
    adaptation: Adaptation | None = None
    session: QuerySession | None = None
    mixing: MixedTraining | None = None
    comparison: Comparison | None = None
    watch: SourceWatch | None = None
    choice: AlphaChoice | None = None
    trained_on: tuple[str, ...] = ()
    can_go_on: bool = False
    dataloader_unlabelled: Any = None
    _validated: ExitStack

    def on_train_epoch_start(self) -> None:
        """Follow the optimizer and the schedule that the trainer made."""
        self.adaptation.attach(self.optimizer)
        if self.restart == "source" and not isinstance(self.lr_scheduler, RoundSchedule):
            self.lr_scheduler = RoundSchedule(self.lr_scheduler, self.num_epochs, self._round_epochs)
        if self.mixing is not None:
            self.mixing.begin_epoch()
        super().on_train_epoch_start()

    def train_step(self, batch: dict) -> dict:
        """As the stock one; where unlabelled cases are trained on as well, with the loss of mixed samples in the same step."""
        if self.mixing is None or self.dataloader_unlabelled is None:
            return super().train_step(batch)
        data = batch["data"].to(self.device, non_blocking=True)
        with self.mixing.joining(data):
            return super().train_step({**batch, "data": data})

    def on_validation_epoch_start(self) -> None:
        """Validate the weights that predict."""
        super().on_validation_epoch_start()
        self._validated.enter_context(self.adaptation.predicting())

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        """Go on with the weights that are trained on."""
        self._validated.close()
        super().on_validation_epoch_end(val_outputs)

    def on_train_end(self) -> None:
        """As the stock one, which ends the loaders that it knows."""
        super().on_train_end()
        finish_loader(self.dataloader_unlabelled)

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """As the stock one, with the weights that predict."""
        with self.adaptation.predicting():
            super().perform_actual_validation(save_probabilities)

    def load_checkpoint(self, *given: Any, **named: Any) -> None:
        """As the stock one; where the weights that predict are others, those that are trained on are beside them.

        The stock one unpickles the file, which can run code stored in it; so it is read in a safe way first, and refused if that fails.
        What its first argument, a file or a checkpoint, is called differs between versions of nnU-Net.
        """
        (found,) = [*given, *named.values()]
        checkpoint = found
        if not isinstance(found, dict):
            with self.one_sentence():
                found = str(Ranks().decide(lambda: meant_by(Path(found))))
                checkpoint = load_checkpoint(Path(found), found, advice=_NOT_OURS)
        super().load_checkpoint(found)
        self.can_go_on = True
        details = own_details(checkpoint)
        self.adaptation.resume(details)
        if self.mixing is not None:
            self.mixing.resume(details)
        self.trained_on = tuple(details.get("labelled", ()))
        for follower in (self.watch, self.choice):
            if isinstance(follower, SourceWatch | GuardedChoice):
                follower.trained_on = set(self.trained_on)

    def _adapt(self, report: TransferReport) -> None:
        """Follow the weights from here on; the network is the source network."""
        for line in self.fine_tuning.lines():
            self.print_to_log_file(f"Fine-tuning: {line}.")
        interpolation = self.fine_tuning.first_interpolation
        if interpolation != 1 and not report.head_trained:
            self.print_to_log_file(
                "Fine-tuning: no interpolation, for the source has no output layer for this target to stay near to."
            )
            interpolation = 1.0
        self.adaptation = Adaptation(
            self.network,
            self.fine_tuning.ema_decay(self.num_iterations_per_epoch) if self.fine_tuning.ema_epochs else None,
            free=report.head if None in report.heads.indices else (),
            interpolation=interpolation,
        )
        if not self.fine_tuning.unlabelled:
            return
        if report.head_trained and None not in report.heads.indices:
            self.mixing = MixedTraining(self)
        else:
            self.print_to_log_file(
                "Fine-tuning: unlabelled cases are not trained on, for the source does not know all classes of this target and "
                "cannot teach them."
            )

    @property
    def _unlabelled(self) -> tuple[str, ...]:
        return () if self.mixing is None else self.mixing.cases

    def _prepare_mixing(self) -> None:
        if self.mixing is not None:
            self.mixing.prepare(self.current_epoch)

    def _restart(self) -> None:
        """Begin again from the source weights."""
        self.adaptation.restart(self.optimizer)
        if self.mixing is not None:
            self.mixing.restart()

    def _compare(self) -> None:
        choosing = self.fine_tuning.is_chosen and self.adaptation.interpolation != 1
        if not (self.fine_tuning.compare or choosing):
            return
        session = self.session
        file = Path(self.output_folder) / FILE
        labels, known = session.dataset_json["labels"], session.known_slices.folder
        origin = Origin(session.campaign.begun, weights_digest(self.adaptation.source))
        comparison = self.comparison = Comparison(file, session.store, labels, session.ranks, known, origin)
        if self.fine_tuning.compare:
            self.watch = SourceWatch(session, self.adaptation, self._window, comparison)
        if choosing:
            chooses = HeldOutChoice if self.fine_tuning.chosen_by_held_out else GuardedChoice
            self.choice = chooses(session, self.adaptation, self._window, comparison)

    def _begin_comparison(self) -> None:
        source, log = self.adaptation.source, self.session.log
        if self.comparison is not None:
            self.comparison.take_over(self.session.labelled())
            if self.current_epoch == 0:
                self.comparison.begin()
        begun = self.session.campaign.begun
        earlier = functools.cache(
            lambda: earlier_training(Path(self.output_folder), source, log, begun)
        )  # both may ask for it
        if self.choice is not None:
            self.choice.begin(self.current_epoch, earlier)
        if self.watch is not None and self.current_epoch == 0:
            self.watch.begin(earlier)
        earlier.cache_clear()  # its weights take memory
        if isinstance(self.choice, GuardedChoice) and self.current_epoch == 0:
            CrossFit(self, self.choice).run()

    def _compare_on_new_labels(self) -> None:
        for judge in (self.choice, self.watch):
            if judge is not None:
                judge.new_labels(self.current_epoch)

    def _choose_interpolation(self) -> None:
        if self.choice is not None:
            self.choice.choose(self.current_epoch)

    def _round_epochs(self, epoch: int) -> tuple[int, int]:
        return self.session.round_epochs(epoch, self.num_epochs)

    def _first_weights(self) -> torch.Tensor:
        return next(iter(unwrap(self.network).state_dict().values())).detach().cpu().clone()

    def _warn_of_pretrained_weights(self) -> None:
        """-pretrained_weights replaces all but the head: the first query would then come from a mixture of two networks."""
        if self.current_epoch == 0 and not torch.equal(self._first_weights(), self._stem_weights):
            self.print_to_log_file(
                "WARNING: the network is not the source network any more: -pretrained_weights replaces all but the segmentation "
                "head. Leave that flag away; this trainer carries the whole source network over by itself, head included."
            )
