"""Work for the engines' tests: importable by the processes that they start."""

from __future__ import annotations

import os
import signal
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


def always_die(job: Job) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}
