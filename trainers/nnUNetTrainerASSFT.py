"""ASSFT in rounds: query, fine-tune on the labelled cases, keep the reliable predictions, fine-tune on both."""

from __future__ import annotations

from typing import Any, ClassVar

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_active.training.query_mixin import ActiveQueryMixin


class nnUNetTrainerASSFT(ActiveQueryMixin, nnUNetTrainer):
    """ASSFT (arXiv 2509.10784): five rounds [paper] of one case and 40 epochs, each from the source weights again [choice]."""

    strategy = "assft"
    active_budget = 5
    active_query_size = 1
    active_stride = 40
    active_epochs = 200
    active_initial_lr = 0.01
    active_restart = "source"
    active_pseudo_labels: ClassVar[dict[str, Any] | None] = {}
