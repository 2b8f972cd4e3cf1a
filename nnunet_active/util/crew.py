"""The processes that ``torchrun`` has started for one command: the first leads, the others do the work that it hands out.

They share only a store of torch.distributed: a dictionary that torchrun or the first process keeps. The leader puts a piece of work
and its items there. A free process takes the next item by incrementing a number, so a slow item delays nobody, and
puts its result back. Each process also increments a pulse; if a process has died, the leader does its item again.

No operation is collective, so a process that dies stops no other. No wait for work times out, so the leader may preprocess for
hours. It makes no difference whether the processes compute on CPUs or on GPUs.

The content of the store is trusted: whoever reaches its port could run code here. So use it only in a private network, like
everything in torch.distributed.
"""

from __future__ import annotations

import io
import json
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any

import torch
from torch import distributed
from tqdm import tqdm

from nnunet_active.util.errors import ActiveError
from nnunet_active.util.launched import number_of_process, processes_of_command
from nnunet_active.util.log import Log
from nnunet_active.util.progress import bar_is_shown
from nnunet_active.util.ranks import Ranks, Work, run_through
from nnunet_active.util.sentences import one_sentence

PULSE, DEAD_AFTER = 2.0, 60.0
"""Seconds between two beats, and seconds without a beat after which a process counts as dead."""
PLENTY = 10
"""Items per process that must be left before a process reads the next one ahead (our choice)."""
_LOOK = 0.2  # seconds between two looks at the store
_FAREWELL = 10.0  # seconds that the leader gives the others to read that the command has ended
_MEETING, _ANSWER = timedelta(minutes=10), timedelta(seconds=60)  # for all to arrive; for the store to answer
_PART = 4 << 20  # bytes; the store accepts values of up to 8 MiB
_ABSENT = "nnunet_active: absent"  # a value that nobody puts into the store

_LEADER_GONE = "The process that leads this command is gone; the same command goes on where it was."


class CrewBroken(ActiveError):
    """Another process of the command has failed or is gone; finished work is kept."""

    exit_code = 1


@dataclass(frozen=True)
class _Failed:
    """Stands in for a result: why a process could not go on."""

    sentence: str


class Crew(Ranks):
    """One process of several.

    To its callers the leader looks alone (rank 0 of 1), but :meth:`each` shares out its items. Use it as a context manager.

    Args:
        store: a store of torch.distributed.
        number: of this process, from 0; 0 leads.
        size: number of processes.
        log: where the leader reports problems, or process 1 that the leader is gone.
    """

    def __init__(self, store: distributed.Store, number: int, size: int, log: Log) -> None:
        super().__init__()
        self.store, self.number, self.size, self.log = store, number, size, log
        self._pulses: dict[int, tuple[int, float]] = {}
        self._read: dict[int, int] = {}  # for the current job: number of results read from each other process
        self._held: list[str] = []  # items that this process has taken but not finished
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._heart.start()

    @classmethod
    def meet(cls, log: Log) -> Crew:
        """Join the other processes of this command, found through the environment.

        Raises:
            CrewBroken: the store cannot be reached.
        """
        # if one process fails, torchrun ends the others: as with Ctrl-C, nothing may be left half-written
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            store, _, _ = next(iter(distributed.rendezvous("env://", timeout=_MEETING)))
        except (RuntimeError, ValueError) as error:
            said = " ".join(str(error).split())
            raise CrewBroken(
                f"The processes of this command do not find one another ({said}); start it again."
            ) from error
        store.set_timeout(_ANSWER)
        return cls(store, number_of_process(), processes_of_command(), log)

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._heart.join(PULSE)

    @property
    def leads(self) -> bool:
        """Whether this process hands out the work, writes and prints."""
        return self.number == 0

    def each(self, work: Work, items: Sequence[str], description: str = "") -> dict[str, Any]:
        """See :meth:`Ranks.each`; only the leader calls it.

        Raises:
            CrewBroken: another process could not go on; the message says why.
        """
        if len(items) < 2 or not (job := self._publish(work, items)):
            return super().each(work, items, description)
        done: dict[str, Any] = {}
        with tqdm(total=len(items), desc=description, disable=not bar_is_shown()) as bar:
            for item, result in run_through(work, self._claimed(job, items), self._plenty(job, items)):
                done[item] = result
                self._collect(job, done)
                bar.update(len(done) - bar.n)
            for item in self._lost(job, items, done):
                done[item] = work.begin(item, work.load(item))()
        self._forget(job)
        return {item: done[item] for item in items}

    def help(self) -> int:
        """Do the leader's work until the command ends; returns the leader's exit code.

        Raises:
            CrewBroken: the leader is gone.
        """
        last = 0
        try:
            while not self.store.check(["end"]):
                newest = self.store.add("jobs", 0)
                if newest > last:
                    last = newest
                    self._help_with(f"job_{newest}")
                elif not self._lives(0):
                    raise self._leaderless()
                else:
                    time.sleep(_LOOK)
            code = int(self.store.get("end"))
            self.store.set(f"left_{self.number}", "")
        except RuntimeError as error:  # the store has gone with the process that kept it
            raise self._leaderless() from error
        return code

    def _leaderless(self) -> CrewBroken:
        if self.number == 1:  # one message is enough
            self.log(_LEADER_GONE)
        return CrewBroken(_LEADER_GONE)

    def end(self, code: int) -> None:
        """Tell the others that the command has ended, with its exit code, and give them a moment to read it."""
        with suppress(RuntimeError):
            self.store.set("end", str(code))
            until = time.monotonic() + _FAREWELL
            others = [other for other in range(1, self.size) if self._pulse(other)]
            while time.monotonic() < until and not all(self.store.check([f"left_{other}"]) for other in others):
                time.sleep(_LOOK)

    def _beat(self) -> None:
        with suppress(RuntimeError):  # the store is gone: the code that works with it reports that
            while not self._ended.is_set():
                self.store.add(f"pulse_{self.number}", 1)
                self._ended.wait(PULSE)

    def _pulse(self, other: int) -> int:
        return self.store.add(f"pulse_{other}", 0)

    def _lives(self, other: int) -> bool:
        """Whether another process's pulse has advanced lately, by this process's own clock."""
        pulse, now = self._pulse(other), time.monotonic()
        seen, since = self._pulses.get(other, (-1, now))
        if pulse != seen or not pulse:  # 0: it may not have arrived yet
            self._pulses[other] = (pulse, now)
            return True
        return now - since < DEAD_AFTER

    def _publish(self, work: Work, items: Sequence[str]) -> str:
        """Name of the job; empty if it cannot be handed out and the leader must do it alone."""
        content = io.BytesIO()
        try:
            torch.save((work, list(items)), content)
        except Exception as error:  # pickle raises very different errors
            said = " ".join(str(error).split())
            self.log(f"WARNING: the work cannot be handed to the other processes ({type(error).__name__}: {said}).")
            return ""
        job = f"job_{self.store.add('jobs', 0) + 1}"
        self._read = dict.fromkeys(range(1, self.size), 0)
        self._put(job, content.getbuffer())
        self.store.add("jobs", 1)
        return job

    def _claimed(self, job: str, items: Sequence[str]) -> Iterator[str]:
        """The items that this process gets, until the command ends: the first to ask gets the next item."""
        while not self.store.check(["end"]) and (index := self.store.add(f"{job}_next", 1) - 1) < len(items):
            self._hold(job, [*self._held, items[index]])
            yield items[index]

    def _plenty(self, job: str, items: Sequence[str]) -> Callable[[], bool]:
        """Whether enough items are left to take one early and read it ahead; near the end, a slow item must not delay another."""
        return lambda: len(items) - self.store.add(f"{job}_next", 0) >= PLENTY * self.size

    def _hold(self, job: str, items: list[str]) -> None:
        """Record which items this process has; more than one if the next is read ahead."""
        self._held = items
        if not self.leads:
            self.store.set(f"{job}_held_{self.number}", json.dumps(items))

    def _help_with(self, job: str) -> None:
        if (content := self._get(job)) is None:
            return  # finished before this process got to it
        results, self._held = 0, []
        try:
            # written a moment ago by the leader of this very command
            work, items = torch.load(io.BytesIO(content), map_location="cpu", weights_only=False)
            for item, result in run_through(work, self._claimed(job, items), self._plenty(job, items)):
                self._put(f"{job}_by_{self.number}_{results}", pickle.dumps((item, result)))
                self._hold(job, [one for one in self._held if one != item])
                results += 1
        except Exception as error:  # the leader reports it to the user
            failed = pickle.dumps(("", _Failed(one_sentence(error)[0])))
            self._put(f"{job}_by_{self.number}_{results}", failed)

    def _collect(self, job: str, done: dict[str, Any]) -> None:
        """Collect the others' results."""
        for other, number in self._read.items():
            while (content := self._get(f"{job}_by_{other}_{number}", forget=True)) is not None:
                item, result = pickle.loads(content)
                if isinstance(result, _Failed):
                    raise CrewBroken(f"Process {other} of {self.size} could not go on: {result.sentence}")
                done[item] = result
                number += 1
            self._read[other] = number

    def _lost(self, job: str, items: Sequence[str], done: dict[str, Any]) -> Iterator[str]:
        """Wait for items that other processes have taken; yield those whose process has died, to be done here."""
        suspected: set[str] = set()
        while True:
            at_work = {item for other in self._read if self._lives(other) for item in self._held_by(job, other)}
            self._collect(job, done)
            missing = [item for item in items if item not in done]
            if not missing:
                return
            lost = [item for item in missing if item not in at_work]
            if lost and lost[0] in suspected:  # not merely caught between two records of its process
                self.log(f"WARNING: a process that worked on {lost[0]} is gone; it is done again.")
                yield lost[0]
            else:
                time.sleep(_LOOK if not lost else 2 * PULSE)
            suspected = set(lost)

    def _held_by(self, job: str, other: int) -> list[str]:
        key = f"{job}_held_{other}"
        return json.loads(self.store.get(key)) if self.store.check([key]) else []

    def _put(self, key: str, content: bytes | memoryview) -> None:
        """Store the content in parts, their number last, so that content is complete once its key exists."""
        parts = range(0, len(content), _PART)
        for number, start in enumerate(parts):
            self.store.set(f"{key}_part_{number}", bytes(content[start : start + _PART]))
        self.store.set(key, str(len(parts)))

    def _get(self, key: str, forget: bool = False) -> bytes | None:
        """The content; None if it is not there, or if the leader deleted it while this process was reading."""
        if (parts := self._now(key)) is None:
            return None
        content = [self._now(f"{key}_part_{number}") for number in range(int(parts))]
        if None in content:
            return None
        if forget:
            self._forget(key)
        return b"".join(content)

    def _now(self, key: str) -> bytes | None:
        """The value in the store, without waiting; the store's `get` would wait for a key that the leader has deleted."""
        found = self.store.compare_set(key, _ABSENT, _ABSENT)
        return None if found == _ABSENT.encode() else found

    def _forget(self, key: str) -> None:
        for number in range(int(self.store.get(key))):
            self.store.delete_key(f"{key}_part_{number}")
        self.store.delete_key(key)
