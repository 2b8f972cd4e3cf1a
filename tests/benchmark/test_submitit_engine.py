"""Runs as jobs of submitit, on this machine."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from tiny_benchmark import job_of, tiny_benchmark

from nnunet_active.benchmark.execution import Job, execute
from nnunet_active.benchmark.submitit_engine import SubmititEngine

pytest.importorskip("submitit")
LONG = {"iterations": 40}


def preempt_after_the_first_leg(job: Job) -> None:
    """What SLURM does to a job whose time is up."""
    for _ in range(1200):
        if list((job.root / "legs").glob("*/leg.json")):
            (holder,) = job.folder.rglob(".lock_holder.json")
            os.kill(json.loads(holder.read_text())["pid"], signal.SIGUSR2)
            return
        time.sleep(0.02)


@pytest.mark.long
def test_a_job_that_is_preempted_is_put_back_into_the_queue_and_ends_as_if_nothing_had_been(nnunet_folders: Path):
    job = job_of(tiny_benchmark(nnunet_folders, **LONG), "random")
    thread = threading.Thread(target=preempt_after_the_first_leg, args=(job,))
    thread.start()
    engine = SubmititEngine(nnunet_folders / "jobs", "local", {"timeout_min": 2}, poll_seconds=0.1)
    (outcome,) = engine.run([job])
    thread.join()
    assert outcome.problem == ""
    logs = "".join(file.read_text() for file in (nnunet_folders / "jobs").glob("*_log.*"))
    assert "Requeued job" in logs
    alone = execute(job_of(tiny_benchmark(nnunet_folders, "alone", **LONG), "random"))
    assert [one["weights"] for one in outcome.result["rounds"]] == [one["weights"] for one in alone["rounds"]]
