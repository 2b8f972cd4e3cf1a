"""Sets a trainer's epochs, iterations and learning rate: from the campaign, else the trainer's own."""

from __future__ import annotations

from typing import Any

from nnunet_active.campaign.settings import Settings

ATTRIBUTES = {
    "epochs": "num_epochs",
    "iterations": "num_iterations_per_epoch",
    "val_iterations": "num_val_iterations_per_epoch",
    "initial_lr": "initial_lr",
}
"""Names of our settings and nnU-Net's attributes. Our trainer classes may set their own value in ``active_<setting>``."""


def set_schedule(trainer: Any, settings: Settings) -> str:
    """Set a trainer's epochs, iterations and learning rate: from the settings, else from the class, else nnU-Net's.

    Args:
        trainer: an nnU-Net trainer as its constructor left it.
        settings: the campaign's; a value of None leaves it to the trainer.

    Returns:
        One sentence for the log: the values, and where the learning rate comes from.
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
