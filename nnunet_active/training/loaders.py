"""nnU-Net's background data loaders, ended in the way nnU-Net ends them."""

from __future__ import annotations

import contextlib
import io

from batchgenerators.dataloading.multi_threaded_augmenter import MultiThreadedAugmenter
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


def finish_loaders(trainer: nnUNetTrainer) -> None:
    """End the worker processes of both loaders, if there are any, and forget the loaders.

    The workers hold a copy of the list of cases, so that a changed training set needs new ones; and a process with living
    workers does not end.
    """
    for name in ("dataloader_train", "dataloader_val"):
        loader = getattr(trainer, name, None)
        if isinstance(loader, (MultiThreadedAugmenter, NonDetMultiThreadedAugmenter)):
            with contextlib.redirect_stdout(io.StringIO()):
                loader._finish()
        setattr(trainer, name, None)
