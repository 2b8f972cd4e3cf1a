"""For short schedules: AdamW in place of nnU-Net's SGD."""

from __future__ import annotations

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

from nnunet_active.trainers.nnUNetTrainerActive import nnUNetTrainerActive


class nnUNetTrainerActiveAdamW(nnUNetTrainerActive):
    """As nnUNetTrainerActive with AdamW (initial lr 1e-3, poly): nnU-Net's SGD learns little in a few hundred steps [choice]."""

    active_initial_lr = 1e-3

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
        """AdamW with the trainer's weight decay and nnU-Net's poly schedule over all epochs."""
        optimizer = torch.optim.AdamW(self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)
