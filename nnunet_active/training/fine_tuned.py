"""What an nnU-Net trainer does differently in fine-tuning: which weights predict, and what is compared with the source network."""

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
from nnunet_active.util.errors import CampaignError
from nnunet_active.util.ranks import Ranks

_NOT_OURS = "it was not written by a training of this package; train without --c, or put your own checkpoint back"


class FineTunedMixin:
    """Mixin to put before an nnU-Net trainer class, which sets the attributes.

    Attributes:
        fine_tuning: the settings.
        restart: ``never`` or ``source``.
        adaptation: the weights; set by ``initialize``.
        session: the campaign's side, which knows the rounds; set by ``initialize``.
        mixing: the training on unlabelled cases; None without it.
        comparison: holds what ``watch`` and ``choice`` measure; None without them.
        watch: compares with the source network; None if that is switched off.
        choice: chooses the interpolation; None if it is fixed.
        trained_on: cases that a loaded checkpoint was trained on.
        trained_in: when the campaign of a loaded checkpoint began; empty if it does not say, as those of earlier versions.
        source_axes: axes along which the source may be mirrored; None if it does not say.
        can_go_on: whether ``--c`` would resume this training, because it has saved a checkpoint or began from one.
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
    trained_in: str = ""
    source_axes: tuple[int, ...] | None = None
    can_go_on: bool = False
    dataloader_unlabelled: Any = None
    _validated: ExitStack
    _told_of_axes: bool = False

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple:
        """Like the stock method, but mirror along no axis along which the source was not mirrored: its labels may know sides."""
        *others, axes = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        if self.source_axes is None:
            return (*others, axes)
        allowed = tuple(axis for axis in axes or () if axis in self.source_axes) or None
        if allowed != (axes or None) and not self._told_of_axes:
            self._told_of_axes = True  # nnU-Net asks again for every new loader
            self.print_to_log_file(
                f"Mirroring: along {f'the axes {allowed}' if allowed else 'no axis'}, as in the source's training; this trainer would "
                f"mirror along {axes}."
            )
        self.inference_allowed_mirroring_axes = allowed
        return (*others, allowed)

    @property
    def _mirrored_axes(self) -> tuple[int, ...] | None:
        """Axes for an ensemble of mirrored passes; None if they are not known yet."""
        axes = self.inference_allowed_mirroring_axes
        return () if axes is None and self.source_axes is not None else axes

    def on_train_epoch_start(self) -> None:
        """Follow the trainer's optimizer, and wrap its schedule where each round restarts from the source."""
        self.adaptation.attach(self.optimizer)
        if self.restart == "source" and not isinstance(self.lr_scheduler, RoundSchedule):
            self.lr_scheduler = RoundSchedule(self.lr_scheduler, self.num_epochs, self._round_epochs)
        if self.mixing is not None:
            self.mixing.begin_epoch()
        super().on_train_epoch_start()

    def train_step(self, batch: dict) -> dict:
        """Like the stock method; if unlabelled cases are trained on too, the same step learns from mixed samples."""
        if self.mixing is None or self.dataloader_unlabelled is None:
            return super().train_step(batch)
        return self.mixing.step(batch, super().train_step)

    def on_validation_epoch_start(self) -> None:
        """Validate with the weights that predict."""
        super().on_validation_epoch_start()
        self._validated.enter_context(self.adaptation.predicting())

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        """Return to the weights in training."""
        self._validated.close()
        super().on_validation_epoch_end(val_outputs)

    def on_train_end(self) -> None:
        """Like the stock method, which ends its own loaders; also end the loader of unlabelled cases."""
        super().on_train_end()
        finish_loader(self.dataloader_unlabelled)

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Like the stock method, with the weights that predict."""
        with self.adaptation.predicting():
            super().perform_actual_validation(save_probabilities)

    def load_checkpoint(self, *given: Any, **named: Any) -> None:
        """Like the stock method; then restore the weights in training, stored beside those that predict if they differ. Refuses a
        checkpoint whose weights lie between another source network and the trained one.

        The stock method unpickles the file, which can run code stored in it. So the file is first read safely, and refused if that
        fails. The argument (a file or a checkpoint) has different names in different versions of nnU-Net.
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
        with self.one_sentence():
            self._check_source(details)
        self.adaptation.resume(details)
        self.trained_in = details.get("campaign", "")
        if self.mixing is not None:
            self.mixing.resume(details)
        self.trained_on = tuple(details.get("labelled", ()))
        for follower in (self.watch, self.choice):
            if isinstance(follower, SourceWatch | GuardedChoice):
                follower.trained_on = set(self.trained_on)

    def _check_campaign(self) -> None:
        """Refuse to go on (``--c``) with a training of another campaign; to validate it (``--val``) stays possible."""
        begun = self.session.campaign.begun if self.session is not None else ""
        if not begun or self.trained_in in ("", begun):
            return
        with self.one_sentence():
            raise CampaignError(
                f"The checkpoint in {self.output_folder} was trained in an earlier campaign of this data set, with its settings and "
                f"labels; train without --c, so that this campaign begins at its source network."
            )

    def _check_source(self, details: dict[str, Any]) -> None:
        # an untrained head has other random weights in another version of PyTorch, and is not interpolated
        matters = self.adaptation.is_whole and (self.adaptation.interpolation != 1 or self.restart == "source")
        if matters and details.get("source") not in (None, weights_digest(self.adaptation.source)):
            raise CampaignError(
                f"The checkpoint in {self.output_folder} was trained from another source network, so nothing can be made of it with "
                f"the one that is there now; put that network back, or train anew (without --c or --val)."
            )

    def _adapt(self, report: TransferReport) -> None:
        """Set up :attr:`adaptation` and :attr:`mixing`; the network still has the source weights."""
        for line in self.fine_tuning.lines():
            self.print_to_log_file(f"Fine-tuning: {line}.")
        interpolation = self.fine_tuning.first_interpolation
        if interpolation != 1 and not report.head_trained:
            self.print_to_log_file(
                "Fine-tuning: no interpolation, because the source has no output layer for this target."
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
                "Fine-tuning: unlabelled cases are not trained on, because the source does not know all classes of this target and "
                "cannot teach them."
            )

    @property
    def _unlabelled(self) -> tuple[str, ...]:
        return () if self.mixing is None else self.mixing.cases

    def _prepare_mixing(self) -> None:
        if self.mixing is not None:
            self.mixing.prepare(self.current_epoch)
            if isinstance(self.choice, GuardedChoice):
                self.choice.mixed = bool(self.mixing.cases)

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
        )  # choice and watch may both ask for it
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
        """Warn if -pretrained_weights replaced all but the head: the first query would come from a mixture of two networks."""
        if self.current_epoch == 0 and not torch.equal(self._first_weights(), self._stem_weights):
            self.print_to_log_file(
                "WARNING: the network is not the source network any more: -pretrained_weights replaces all but the segmentation "
                "head. Leave that flag out; this trainer carries the whole source network over by itself, head included."
            )
