"""Ends nnU-Net's background data loaders: the way nnU-Net does, or when their training dies."""

from __future__ import annotations

import contextlib
import io
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from batchgenerators.dataloading.multi_threaded_augmenter import MultiThreadedAugmenter
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


def finish_loader(loader: Any) -> None:
    """End the worker processes of one loader, if it has any."""
    if isinstance(loader, (MultiThreadedAugmenter, NonDetMultiThreadedAugmenter)):
        with contextlib.redirect_stdout(io.StringIO()):
            loader._finish()


def finish_loaders(trainer: nnUNetTrainer) -> None:
    """End the worker processes of all loaders, if there are any, and forget the loaders.

    The workers hold a copy of the list of cases, so a changed training set needs new workers. And a process does not end while
    its workers live.
    """
    for name in ("dataloader_train", "dataloader_val", "dataloader_unlabelled"):
        finish_loader(getattr(trainer, name, None))
        setattr(trainer, name, None)


_parent: int | None = None  # whose children watch it


@contextlib.contextmanager
def ending_with_their_parent() -> Iterator[None]:
    """Processes forked inside this context end within a second after this process, even if it is killed.

    Otherwise the augmentation workers of a killed training would wait for it for ever and keep their memory.
    """
    global _parent
    _parent = os.getpid()
    try:
        yield
    finally:
        _parent = None


def _watch() -> None:
    """Start a thread in a new child process that ends it once the parent is gone."""
    parent = _parent
    if parent is None:
        return

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_watch)


@contextlib.contextmanager
def reading_from(trainer: nnUNetTrainer, folder: Path) -> Iterator[None]:
    """Make the stock code of a trainer read cases from another folder."""
    stock, trainer.preprocessed_dataset_folder = trainer.preprocessed_dataset_folder, str(folder)
    try:
        yield
    finally:
        trainer.preprocessed_dataset_folder = stock
