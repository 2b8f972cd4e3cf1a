"""The pool of processes: whose process dies is taken up again, and who fails leaves the others alone."""

from __future__ import annotations

import os
from pathlib import Path

import dying_work
import pytest

from nnunet_active.benchmark import engines
from nnunet_active.benchmark.engines import LocalEngine
from nnunet_active.benchmark.execution import Job
from nnunet_active.benchmark.plan import RunSpec
from nnunet_active.benchmark.target import SharedTarget


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    target = SharedTarget(tmp_path, tmp_path, "Dataset901_X", "nnUNetActivePlans", "2d")
    return [
        Job(
            RunSpec(arm, "plain", target.dataset, "2d", target.plans, "T", 0, ("a",), ("b",), 0, None, threads=1),
            target,
            {},
            tmp_path,
        )
        for arm in ("victim", "bystander", "failing")
    ]


def test_a_run_whose_process_was_killed_is_taken_up_again_and_one_that_fails_leaves_the_others_alone(jobs: list[Job]):
    outcomes = {one.job.spec.arm: one for one in LocalEngine(1, dying_work.die_once).run(jobs)}
    assert outcomes["victim"].result["tries"] == 2
    assert outcomes["bystander"].result["tries"] == 1
    assert outcomes["victim"].result["threads"] == "1"
    assert outcomes["failing"].problem == "There is nothing here."


def test_a_run_that_dies_every_time_is_given_up_and_named(jobs: list[Job], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engines, "TRIES", 1)
    (outcome,) = LocalEngine(1, dying_work.always_die).run(jobs[:1])
    assert outcome.result is None and "died 1 times" in outcome.problem


def test_a_run_that_dies_every_time_takes_no_try_from_the_one_beside_it(jobs: list[Job]):
    outcomes = {one.job.spec.arm: one for one in LocalEngine(2, dying_work.die_beside_the_others).run(jobs[:2])}
    assert outcomes["victim"].result is None and "died 3 times" in outcomes["victim"].problem
    assert outcomes["bystander"].result == {"tries": 1}


def test_what_is_at_work_is_stopped_with_whoever_waits_for_it(jobs: list[Job]):
    running = LocalEngine(2, dying_work.tell_and_stay).run(jobs[:2])
    assert next(running).job.spec.arm == "bystander"
    running.close()
    for file in jobs[0].root.glob("runs/*/process"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.read_text()), 0)
