from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from batchgenerators.dataloading.data_loader import DataLoader
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter

from nnunet_active.training.loaders import ending_with_their_parent, finish_loaders, reading_from


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


def killed_training(pipe: int) -> None:
    """A process with two workers, as a training has them, that is killed in the middle."""
    with ending_with_their_parent():
        loader = NonDetMultiThreadedAugmenter(Batches(), None, 2, num_cached=1, seeds=None)
        next(loader)
    os.write(pipe, json.dumps([process.pid for process in multiprocessing.active_children()]).encode())
    os.kill(os.getpid(), signal.SIGKILL)


def is_there(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"  # nobody may be there to bury it


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="needs /proc")
def test_the_workers_of_a_killed_training_end_by_themselves():
    reader, writer = os.pipe()
    process = os.fork()
    if not process:
        killed_training(writer)
    workers = json.loads(os.read(reader, 1000))
    assert len(workers) == 2 and os.WTERMSIG(os.waitpid(process, 0)[1]) == signal.SIGKILL
    end = time.monotonic() + 20
    while any(map(is_there, workers)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(map(is_there, workers))


def test_other_processes_are_not_watched():
    before = threading.active_count()
    with ending_with_their_parent():
        pass
    process = os.fork()
    if not process:
        os._exit(threading.active_count() - 1)
    assert os.WEXITSTATUS(os.waitpid(process, 0)[1]) == 0 and threading.active_count() == before


def test_the_folder_of_the_stock_code_is_as_before_afterwards_also_after_an_error(tmp_path):
    trainer = SimpleNamespace(preprocessed_dataset_folder="stock")
    with pytest.raises(ZeroDivisionError), reading_from(trainer, tmp_path):
        assert trainer.preprocessed_dataset_folder == str(tmp_path)
        raise ZeroDivisionError
    assert trainer.preprocessed_dataset_folder == "stock"
