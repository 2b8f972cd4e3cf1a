from __future__ import annotations

import json
import os
import signal
import time

import pytest
from killed_process import needs_fork

from nnunet_active.campaign.running import TrainingNote, running_trainings


def in_another_process(folder, fold: str = "0") -> int:
    """A process that trains until it is killed."""
    process = os.fork()
    if process:
        end = time.monotonic() + 20
        while not running_trainings(folder) and time.monotonic() < end:
            time.sleep(0.05)
        return process
    note = TrainingNote(folder, "nnUNetTrainerMine", fold, 600)
    note.at(7)
    time.sleep(60)
    os._exit(0)


@needs_fork
def test_a_training_is_seen_while_it_runs_and_not_after_its_death(tmp_path):
    process = in_another_process(tmp_path)
    (one,) = running_trainings(tmp_path)
    assert (one.trainer, one.fold, one.epoch, one.epochs, one.pid) == ("nnUNetTrainerMine", "0", 7, 600, process)
    assert "nnUNetTrainerMine trains fold 0 now: epoch 7 of 600" in one.line()
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    assert running_trainings(tmp_path) == []


def test_the_note_moves_on_with_the_training_and_goes_with_its_end(tmp_path):
    first, other = (TrainingNote(tmp_path, "nnUNetTrainerActive", fold, 3) for fold in ("0", "1"))
    for epoch in (0, 1):
        first.at(epoch)
    other.at(2)
    assert json.loads(first.file.read_text())["epoch"] == 1
    first.end()
    assert not first.file.exists() and other.file.exists()
    other.end()
    other.end()
    assert running_trainings(tmp_path) == []


@needs_fork
@pytest.mark.parametrize("content", ["", "{", "[]", '{"trainer": 3}'])
def test_a_damaged_note_is_no_training(tmp_path, content):
    process = in_another_process(tmp_path)
    try:
        (tmp_path / ".training_fold_0.json").write_text(content)
        assert running_trainings(tmp_path) == []
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def test_a_folder_without_a_campaign_has_no_training(tmp_path):
    assert running_trainings(tmp_path / "nothing") == []
