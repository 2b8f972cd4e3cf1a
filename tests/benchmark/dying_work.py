"""Work for the engines' tests: importable by the processes that they start."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from nnunet_active.benchmark.execution import Job
from nnunet_active.util.errors import MissingInput


def die_once(job: Job) -> dict[str, Any]:
    """The first try of the run named ``victim`` is killed; everybody tells how many tries they saw and their threads."""
    job.folder.mkdir(parents=True, exist_ok=True)
    tries = len(list(job.folder.iterdir()))
    (job.folder / str(tries)).touch()
    if job.spec.arm == "victim" and tries == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    if job.spec.arm == "failing":
        raise MissingInput("There is nothing here.")
    return {"run": job.spec.identifier, "tries": tries + 1, "threads": os.environ["OMP_NUM_THREADS"]}


def die_beside_the_others(job: Job) -> dict[str, Any]:
    """The run named ``victim`` dies every time, once all the others are at work; they end when it has died three times."""
    job.folder.mkdir(parents=True, exist_ok=True)
    tries = len(list(job.folder.iterdir()))
    (job.folder / str(tries)).touch()
    runs, end = job.folder.parent, time.monotonic() + 60
    if job.spec.arm == "victim":
        wait_for(lambda: len(list(runs.iterdir())) == 2, end)
        os.kill(os.getpid(), signal.SIGKILL)
    wait_for(lambda: any((folder / "2").exists() for folder in runs.glob("victim*")), end)
    return {"tries": tries + 1}


def tell_and_stay(job: Job) -> dict[str, Any]:
    """The run named ``bystander`` ends once the one named ``victim`` is at work, which stays for a minute; each tells its process."""
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / "process").write_text(str(os.getpid()))
    if job.spec.arm == "victim":
        time.sleep(60)
    wait_for(lambda: any(job.folder.parent.glob("victim*/process")), time.monotonic() + 60)
    return {}


def wait_for(condition: Callable[[], bool], end: float) -> None:
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)


def always_die(job: Job) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}
