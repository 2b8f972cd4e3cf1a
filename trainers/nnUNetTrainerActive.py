"""The stock trainer with queries by any registered strategy."""

from __future__ import annotations

from typing import Any, ClassVar

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_active.campaign.fine_tuning import default_recipe, recipe
from nnunet_active.training.query_mixin import ActiveQueryMixin


class nnUNetTrainerActive(ActiveQueryMixin, nnUNetTrainer):
    """Queries by the strategy that ``nnunet_active init --strategy`` names; random if no campaign was prepared."""

    strategy = "random"
    active_epochs = 600
    active_fine_tuning: ClassVar[dict[str, Any]] = recipe(default_recipe())
