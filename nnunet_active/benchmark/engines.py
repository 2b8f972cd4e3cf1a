"""Where runs are done: processes of this machine, or the nodes of a cluster. A run whose process dies is taken up again."""

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
"""How often a run is begun whose process dies: it goes on at the last leg that it finished, so each try gets further."""

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "BLOSC_NTHREADS")


@dataclass(frozen=True)
class Outcome:
    """A run that came to an end: its result, or why there is none."""

    job: Job
    result: dict[str, Any] | None
    problem: str = ""


class Engine(Protocol):
    """Does jobs and yields each outcome as it comes."""

    def run(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """In any order."""


class LocalEngine:
    """A pool of processes, each with as many threads as a run asks for.

    Args:
        processes: how many runs at once.
        work: what to do with a job.
    """

    def __init__(self, processes: int, work: Callable[[Job], dict[str, Any]] = execute) -> None:
        self.processes = processes
        self.work = work

    def run(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """As they finish. One dead process breaks the pool of the standard library; the others' runs lose at most a leg."""
        left = list(jobs)
        tries = {job.spec.identifier: 0 for job in jobs}
        while left:
            done: set[str] = set()
            for outcome in self._one_pool(left, tries):
                done.add(outcome.job.spec.identifier)
                yield outcome
            left = [job for job in left if job.spec.identifier not in done]
            for job in [job for job in left if tries[job.spec.identifier] >= TRIES]:
                left.remove(job)
                yield Outcome(job, None, f"its process died {TRIES} times; see log.txt in {job.folder.name}")

    def _one_pool(self, jobs: Sequence[Job], tries: dict[str, int]) -> Iterator[Outcome]:
        for name in _THREADS:  # read when the libraries are loaded, which in a spawned process is after this
            os.environ[name] = str(max(job.spec.threads for job in jobs))
        pool = ProcessPoolExecutor(self.processes, multiprocessing.get_context("spawn"), _initialise)
        queue = list(jobs)
        running: dict[Future, Job] = {}
        try:
            while queue or running:
                # no more than there are processes: a broken pool then tells which runs were at work
                while queue and len(running) < self.processes:
                    job = queue.pop(0)
                    running[pool.submit(_guarded, self.work, job)] = job
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    job = running.pop(future)
                    result, problem = future.result()
                    yield Outcome(job, result, problem)
        except BrokenProcessPool:
            for suspect in [job, *running.values()]:
                tries[suspect.spec.identifier] += 1
        finally:
            processes = list((getattr(pool, "_processes", None) or {}).values())
            if queue or running:  # interrupted: what is at work goes on at its last leg next time
                for process in processes:
                    process.kill()
            pool.shutdown(wait=True, cancel_futures=True)


def _guarded(work: Callable[[Job], dict[str, Any]], job: Job) -> tuple[dict[str, Any] | None, str]:
    """A run that fails says so and leaves the others alone."""
    try:
        return work(job), ""
    except ActiveError as error:
        return None, str(error)
    except Exception:
        return None, traceback.format_exc()


def _initialise() -> None:
    """A worker ends with its parent, and leaves Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
