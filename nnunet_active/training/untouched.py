"""Lends a trainer to another training and restores it afterwards."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from nnunet_active.training.loaders import finish_loaders
from nnunet_active.training.weights import copy_weights, put_weights

_NAMES = ("optimizer", "lr_scheduler", "grad_scaler", "inference_allowed_mirroring_axes", "_loaded_cases")
"""What a training changes besides the weights. The other training must replace these objects, not change them in place."""


@contextmanager
def untouched(trainer: Any) -> Iterator[None]:
    """Restore the trainer on exit, whatever was trained inside, so that it draws the same random numbers next.

    On exit, all loaders are ended, so use it while the trainer has none. A ``do_split`` set on the object is removed again.
    """
    network = trainer.network
    weights, mode = copy_weights(network), network.training
    kept = {name: getattr(trainer, name) for name in _NAMES}
    drawn = random.getstate(), np.random.get_state()  # noqa: NPY002 - as nnU-Net draws
    try:
        with torch.random.fork_rng([trainer.device] if trainer.device.type == "cuda" else []):
            yield
    finally:
        finish_loaders(trainer)
        vars(trainer).pop("do_split", None)
        for name, value in kept.items():
            setattr(trainer, name, value)
        put_weights(network, weights)
        network.train(mode)
        for parameter in network.parameters():
            parameter.grad = None
        random.setstate(drawn[0])
        np.random.set_state(drawn[1])  # noqa: NPY002
