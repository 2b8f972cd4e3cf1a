"""mmActS as published: one case every 40 epochs, chosen by the current model, three in all."""

from __future__ import annotations

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_active.training.query_mixin import ActiveQueryMixin


class nnUNetTrainerMmActS(ActiveQueryMixin, nnUNetTrainer):
    """mmActS (arXiv 2508.20528): budget 3, stride 40, 600 epochs, initial lr 0.01 with one poly schedule [paper]."""

    strategy = "mmacts"
    active_budget = 3
    active_query_size = 1
    active_stride = 40
    active_epochs = 600
    active_initial_lr = 0.01
