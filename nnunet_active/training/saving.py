"""Saves a trainer's checkpoints atomically, so that stock nnU-Net can read them, and completes the model folder."""

from __future__ import annotations

from pathlib import Path

from nnunet_active.training.adaptation import Adaptation
from nnunet_active.training.checkpoints import LATEST, describe_model, make_way, restamp
from nnunet_active.training.earlier_training import origin_of
from nnunet_active.training.mixed_training import MixedTraining
from nnunet_active.training.session import QuerySession
from nnunet_active.util.atomic import temporary_name


class SavingMixin:
    """Mixin to put before an nnU-Net trainer class that has a ``session`` and an ``adaptation``."""

    session: QuerySession | None
    adaptation: Adaptation | None
    mixing: MixedTraining | None
    can_go_on: bool
    _origin: dict[str, str] | None = None

    def save_checkpoint(self, filename: str) -> None:
        """Like the stock method, but atomic, and readable without this package."""
        if self.local_rank > 0 or self.disable_checkpointing:
            super().save_checkpoint(filename)
            return
        final = Path(filename)
        temporary = temporary_name(final)
        try:
            with self.adaptation.predicting():
                super().save_checkpoint(str(temporary))
            session, epoch = self.session, self.current_epoch
            details = {"labelled": session.labelled(epoch), "labels": session.labels(epoch), **self.adaptation.state()}
            if self._origin is None:
                self._origin = origin_of(self.adaptation.source, session.campaign.begun)
            details |= self._origin
            if self.mixing is not None:
                details |= self.mixing.state()
            restamp(temporary, final, type(self), details)
        finally:
            temporary.unlink(missing_ok=True)  # a part of it would keep a full disk full
        make_way(final)

    def save_here(self) -> None:
        """Save a checkpoint that resumes exactly here. Stock code stores current_epoch + 1, since it saves before it counts up."""
        latest = str(Path(self.output_folder) / LATEST)
        self.can_go_on = not self.disable_checkpointing
        self.current_epoch -= 1
        try:
            self.session.ranks.decide(lambda: self.save_checkpoint(latest))  # if rank 0's disk is full, all ranks end
        finally:
            self.current_epoch += 1

    def describe_model_folder(self) -> None:
        """Write what stock nnU-Net writes when the first epoch begins; a training may stop for labels before that."""
        fingerprint = Path(self.preprocessed_dataset_folder_base) / "dataset_fingerprint.json"
        folder, plans = Path(self.output_folder_base), self.plans_manager.plans
        self.session.ranks.decide(lambda: describe_model(folder, plans, self.dataset_json, fingerprint))
