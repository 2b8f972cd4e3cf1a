"""Where runs are done: in processes on this machine, or on the nodes of a cluster. A run whose process dies is started again."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any, Protocol

from nnunet_active.benchmark.execution import Job, execute
from nnunet_active.util.errors import ActiveError

TRIES = 3
"""How often a run is started if its process dies. It continues after its last finished leg, so each try gets further."""

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "BLOSC_NTHREADS")


@dataclass(frozen=True)
class Outcome:
    """A run that has ended: its result, or why there is none."""

    job: Job
    result: dict[str, Any] | None
    problem: str = ""


class Engine(Protocol):
    """Does jobs and yields each outcome when it is ready."""

    def run(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Do the jobs, in any order."""


class LocalEngine:
    """Processes on this machine, each with as many threads as a run asks for.

    Every process is a pool of its own, because one dead process breaks a whole pool of the standard library. If one run kept dying for
    lack of memory, healthy runs in the same pool would lose their legs and their tries with it.

    Args:
        processes: how many runs at once.
        work: what to do with a job.
    """

    def __init__(self, processes: int, work: Callable[[Job], dict[str, Any]] = execute) -> None:
        self.processes = processes
        self.work = work

    def run(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Yield outcomes as runs finish; a run whose process died is started again after those that have not had their turn."""
        for name in _THREADS:  # libraries read them when they are loaded; in a spawned process that comes later
            os.environ[name] = str(max((job.spec.threads for job in jobs), default=1))
        queue, tries = list(jobs), {job.spec.identifier: 0 for job in jobs}
        idle: list[ProcessPoolExecutor] = []
        running: dict[Future, tuple[Job, ProcessPoolExecutor]] = {}
        try:
            while queue or running:
                while queue and len(running) < self.processes:
                    job = queue.pop(0)
                    future, process = self._begin(job, idle)
                    running[future] = job, process
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    job, process = running.pop(future)
                    if not isinstance(future.exception(), BrokenProcessPool):
                        idle.append(process)
                        yield Outcome(job, *future.result())
                        continue
                    process.shutdown()
                    tries[job.spec.identifier] += 1
                    if tries[job.spec.identifier] < TRIES:
                        queue.append(job)
                    else:
                        yield Outcome(job, None, f"its process died {TRIES} times; see log.txt in {job.folder.name}")
        finally:
            at_work = [process for _, process in running.values()]
            for process in at_work:  # interrupted: next time these runs continue at their last leg
                _kill(process)
            for process in (*at_work, *idle):
                process.shutdown(wait=True, cancel_futures=True)

    def _begin(self, job: Job, idle: list[ProcessPoolExecutor]) -> tuple[Future, ProcessPoolExecutor]:
        """Start a job in an idle process that is still alive, or in a new one."""
        while idle:
            process = idle.pop()
            try:
                return process.submit(_guarded, self.work, job), process
            except BrokenProcessPool:
                process.shutdown()
        process = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _initialise)
        return process.submit(_guarded, self.work, job), process


def _kill(pool: ProcessPoolExecutor) -> None:
    for process in list((getattr(pool, "_processes", None) or {}).values()):
        process.kill()


def _guarded(work: Callable[[Job], dict[str, Any]], job: Job) -> tuple[dict[str, Any] | None, str]:
    """Do a job; if it fails, return the reason, so that other runs go on."""
    try:
        return work(job), ""
    except ActiveError as error:
        return None, str(error)
    except Exception:
        return None, traceback.format_exc()


def _initialise() -> None:
    """Make a worker end with its parent and leave Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
