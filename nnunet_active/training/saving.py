"""What a trainer saves: checkpoints that stock nnU-Net reads, each in one step, and all that makes a model folder whole."""

from __future__ import annotations

from pathlib import Path

from nnunet_active.training.adaptation import Adaptation
from nnunet_active.training.checkpoints import LATEST, describe_model, make_way, restamp
from nnunet_active.training.mixed_training import MixedTraining
from nnunet_active.training.session import QuerySession
from nnunet_active.util.atomic import temporary_name


class SavingMixin:
    """Put it before an nnU-Net trainer class that has a ``session`` and an ``adaptation``."""

    session: QuerySession | None
    adaptation: Adaptation | None
    mixing: MixedTraining | None

    def save_checkpoint(self, filename: str) -> None:
        """As the stock one, in one step, and readable where this package is not installed."""
        if self.local_rank > 0 or self.disable_checkpointing:
            super().save_checkpoint(filename)
            return
        final = Path(filename)
        temporary = temporary_name(final)
        with self.adaptation.predicting():
            super().save_checkpoint(str(temporary))
        session, epoch = self.session, self.current_epoch
        details = {"labelled": session.labelled(epoch), "labels": session.labels(epoch), **self.adaptation.state()}
        if self.mixing is not None:
            details |= self.mixing.state()
        restamp(temporary, final, type(self), details)
        make_way(final)

    def save_here(self) -> None:
        """A checkpoint that resumes exactly here. The stock code stores current_epoch + 1, as it saves before it counts up."""
        self.current_epoch -= 1
        try:
            self.save_checkpoint(str(Path(self.output_folder) / LATEST))
        finally:
            self.current_epoch += 1

    def describe_model_folder(self) -> None:
        """What stock nnU-Net writes as the first epoch begins; a training that stops for labels may stop before that."""
        if self.local_rank == 0:
            fingerprint = Path(self.preprocessed_dataset_folder_base) / "dataset_fingerprint.json"
            describe_model(Path(self.output_folder_base), self.plans_manager.plans, self.dataset_json, fingerprint)
