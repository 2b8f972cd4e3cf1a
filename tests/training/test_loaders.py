from __future__ import annotations

import multiprocessing
from types import SimpleNamespace

import numpy as np
from batchgenerators.dataloading.data_loader import DataLoader
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter

from nnunet_active.training.loaders import finish_loaders


class Batches(DataLoader):
    def __init__(self):
        super().__init__(None, 1, infinite=True)

    def generate_train_batch(self):
        return {"data": np.zeros(3)}


def test_the_workers_of_both_loaders_end_and_the_loaders_are_forgotten():
    background = NonDetMultiThreadedAugmenter(Batches(), None, 1, num_cached=1, seeds=None)
    next(background)
    assert multiprocessing.active_children()
    trainer = SimpleNamespace(dataloader_train=background, dataloader_val=SingleThreadedAugmenter(Batches(), None))
    finish_loaders(trainer)
    assert not [process for process in multiprocessing.active_children() if process.is_alive()]
    assert trainer.dataloader_train is None
    assert trainer.dataloader_val is None


def test_a_trainer_that_never_made_loaders_is_fine():
    trainer = SimpleNamespace()
    finish_loaders(trainer)
    assert trainer.dataloader_train is None and trainer.dataloader_val is None
