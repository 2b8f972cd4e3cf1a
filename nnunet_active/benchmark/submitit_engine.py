"""Runs on a SLURM cluster, by submitit (``pip install nnunet_active[cluster]``).

Why submitit: it needs no server, no open port and no pool of idle nodes. Every run is an ordinary job of the cluster's own
queue, which is how nnU-Net is trained there anyway, and submitit itself requeues a job that is preempted or runs out of time. Ray and
Dask want a cluster of their own inside the cluster. That pays for many small tasks; ours are few and last
minutes to days.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nnunet_active.benchmark.engines import TRIES, Outcome, _guarded
from nnunet_active.benchmark.execution import Job, execute
from nnunet_active.util.errors import MissingInput

POLL_SECONDS = 2.0


class RunOnNode:
    """One run, in the form that submitit calls."""

    def __call__(self, job: Job) -> tuple[dict[str, Any] | None, str]:
        """Do the run, or continue it."""
        return _guarded(execute, job)

    def checkpoint(self, job: Job) -> Any:
        """Called if the job is preempted or out of time: submit the same again; it continues after its last finished leg."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, job)


class SubmititEngine:
    """Makes every run a job of its own.

    Args:
        folder: where submitit keeps its scripts and logs; all nodes must see it.
        cluster: ``slurm``, or ``local`` for processes of this machine.
        parameters: of ``submitit.AutoExecutor.update_parameters``, e.g. ``{"slurm_partition": "gpu", "timeout_min": 240}``.
        poll_seconds: between two checks of the queue.

    Raises:
        MissingInput: submitit is not installed.
    """

    def __init__(
        self,
        folder: Path,
        cluster: str = "slurm",
        parameters: dict[str, Any] | None = None,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        try:
            import submitit
        except ImportError:
            raise MissingInput(
                "--engine submitit needs the package submitit; pip install nnunet_active[cluster]."
            ) from None
        self.executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        self.executor.update_parameters(**(parameters or {}))
        self.poll_seconds = poll_seconds

    def run(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Yield outcomes as runs finish; a job that died is submitted again."""
        work = RunOnNode()
        tries = {job.spec.identifier: 1 for job in jobs}
        running = {job.spec.identifier: (job, self.executor.submit(work, job)) for job in jobs}
        while running:
            for name, (job, submitted) in list(running.items()):
                if not submitted.done():
                    continue
                if submitted.exception() is None:
                    del running[name]
                    result, problem = submitted.result()
                    yield Outcome(job, result, problem)
                elif tries[name] < TRIES:
                    tries[name] += 1
                    running[name] = (job, self.executor.submit(work, job))
                else:
                    del running[name]
                    yield Outcome(job, None, f"it died {TRIES} times; the last time: {submitted.exception()}")
            if running:
                time.sleep(self.poll_seconds)
