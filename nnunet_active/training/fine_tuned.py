"""What an nnU-Net trainer does differently when it is fine-tuned: which weights predict, and how the learning rate begins."""

from __future__ import annotations

from contextlib import ExitStack

import torch

from nnunet_active.scoring.embedding import unwrap
from nnunet_active.training.adaptation import Adaptation
from nnunet_active.training.checkpoints import own_details
from nnunet_active.training.fine_tuning import FineTuning
from nnunet_active.training.schedule import RoundSchedule
from nnunet_active.training.session import QuerySession


class FineTunedMixin:
    """Put it before an nnU-Net trainer class, which sets the attributes.

    Attributes:
        fine_tuning: the settings.
        restart: ``never`` or ``source``.
        adaptation: the weights, from ``initialize`` on.
        session: the campaign's side, which knows the rounds, from ``initialize`` on.
    """

    fine_tuning: FineTuning
    restart: str
    adaptation: Adaptation | None = None
    session: QuerySession | None = None
    _validated: ExitStack

    def on_train_epoch_start(self) -> None:
        """Follow the optimizer and the schedule that the trainer made."""
        self.adaptation.attach(self.optimizer)
        changed = self.restart == "source" or self.fine_tuning.warmup_epochs
        if changed and not isinstance(self.lr_scheduler, RoundSchedule):
            warmup = self.fine_tuning.warmup_epochs
            self.lr_scheduler = RoundSchedule(
                self.lr_scheduler, self.optimizer, self.num_epochs, warmup, self._round_epochs
            )
        super().on_train_epoch_start()

    def on_validation_epoch_start(self) -> None:
        """Validate the weights that predict."""
        super().on_validation_epoch_start()
        self._validated.enter_context(self.adaptation.predicting())

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        """Go on with the weights that are trained on."""
        self._validated.close()
        super().on_validation_epoch_end(val_outputs)

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """As the stock one, with the weights that predict."""
        with self.adaptation.predicting():
            super().perform_actual_validation(save_probabilities)

    def load_checkpoint(self, filename_or_checkpoint: dict | str) -> None:
        """As the stock one; where the weights that predict are others, those that are trained on are beside them."""
        super().load_checkpoint(filename_or_checkpoint)
        self.adaptation.resume(own_details(filename_or_checkpoint))

    def _round_epochs(self, epoch: int) -> tuple[int, int]:
        if self.restart != "source":
            return 0, self.num_epochs
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
