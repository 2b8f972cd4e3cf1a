"""Running trainings: each records its progress and holds a lock that the operating system frees when it dies.

``active/fold_F/.training_fold_K.json`` says which trainer is at which epoch. It counts only while ``.training_fold_K.lock`` beside it
is held. So neither a killed training nor another process with the same process number is mistaken for a running training.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from filelock import FileLock, Timeout

from nnunet_active.util.atomic import write_json
from nnunet_active.util.moments import for_people, now_in_utc

PATIENCE = 5.0
"""Seconds that a training waits for the lock, in case another process is just checking it."""


@dataclass(frozen=True)
class RunningTraining:
    """A running training.

    Attributes:
        trainer: class name as in ``-tr``.
        fold: the fold that it trains, a number as text, or ``all``.
        epoch: the present epoch (0, 1, ...).
        epochs: length of the training.
        since: when it began, ISO format with time zone.
        pid, host: its process.
    """

    trainer: str
    fold: str
    epoch: int
    epochs: int
    since: str
    pid: int
    host: str

    def line(self) -> str:
        """The training in one sentence."""
        return (
            f"{self.trainer} trains fold {self.fold} now: epoch {self.epoch} of {self.epochs} (since {for_people(self.since)}, "
            f"process {self.pid} on {self.host})."
        )


class TrainingNote:
    """The record that a training writes of itself.

    Args:
        folder: folder of the campaign.
        trainer, fold, epochs: see :class:`RunningTraining`.
    """

    def __init__(self, folder: Path, trainer: str, fold: str, epochs: int) -> None:
        self.file = Path(folder) / f".training_fold_{fold}.json"
        self._trainer, self._fold, self._epochs = trainer, fold, epochs
        self._since = now_in_utc()
        self._lock = FileLock(self.file.with_suffix(".lock"))

    def at(self, epoch: int) -> None:
        """Record the epoch; the first call takes the lock. If two trainings of a fold run at once, the later one records nothing."""
        if not self._lock.is_locked:
            try:
                self._lock.acquire(timeout=PATIENCE)
            except Timeout:
                return
        process = (os.getpid(), socket.gethostname())
        write_json(
            self.file, asdict(RunningTraining(self._trainer, self._fold, epoch, self._epochs, self._since, *process))
        )

    def end(self) -> None:
        """Remove the record when the training ends or stops."""
        if self._lock.is_locked:
            self.file.unlink(missing_ok=True)
            self._lock.release()


def running_trainings(folder: Path) -> list[RunningTraining]:
    """The running trainings of a campaign, by fold. Records of killed trainings do not count."""
    found = []
    for file in sorted(Path(folder).glob(".training_fold_*.json")):
        lock = FileLock(file.with_suffix(".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if (one := _read(file)) is not None:
                found.append(one)
        except OSError:  # read-only folder: running and killed trainings cannot be told apart
            continue
        else:
            lock.release()
    return found


def _read(file: Path) -> RunningTraining | None:
    """The record; None if the training has just ended, or if the file is damaged."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        one = RunningTraining(**{entry.name: content[entry.name] for entry in fields(RunningTraining)})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    texts, numbers = (one.trainer, one.fold, one.since, one.host), (one.epoch, one.epochs, one.pid)
    return one if all(isinstance(t, str) for t in texts) and all(isinstance(n, int) for n in numbers) else None
