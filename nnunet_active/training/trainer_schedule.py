"""How long a training is and how fast it learns: what the campaign says, else the trainer's own."""

from __future__ import annotations

from typing import Any

from nnunet_active.campaign.settings import Settings

ATTRIBUTES = {
    "epochs": "num_epochs",
    "iterations": "num_iterations_per_epoch",
    "val_iterations": "num_val_iterations_per_epoch",
    "initial_lr": "initial_lr",
}
"""Names of the settings, and of nnU-Net's attributes. A trainer class of ours may have its own value in ``active_<setting>``."""


def set_schedule(trainer: Any, settings: Settings) -> str:
    """Give a trainer its epochs, iterations and learning rate: those of the settings, else the class's, else nnU-Net's.

    Args:
        trainer: an nnU-Net trainer as its constructor left it.
        settings: of the campaign; None in one of the four leaves it to the trainer.

    Returns:
        One sentence for the log: the values, and whose the learning rate is.
    """
    for name, attribute in ATTRIBUTES.items():
        if (own := getattr(trainer, f"active_{name}", None)) is not None:
            setattr(trainer, attribute, own)
    own_lr = trainer.initial_lr
    for name, attribute in ATTRIBUTES.items():
        if (given := getattr(settings, name)) is not None:
            setattr(trainer, attribute, given)
    origin = f"{type(trainer).__name__}'s own"
    if settings.initial_lr is not None:
        origin = f"the campaign's (--lr); {origin} is {own_lr:g}"
    return (
        f"Schedule: {trainer.num_epochs} epochs of {trainer.num_iterations_per_epoch} iterations; initial learning rate "
        f"{trainer.initial_lr:g}, {origin}."
    )
