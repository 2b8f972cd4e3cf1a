"""A benchmark of a tiny network that trains in a second."""

from __future__ import annotations

from pathlib import Path

from tiny_target import NAME, PLANS, make_target

from nnunet_active.benchmark.all_runs import Benchmark, prepare_benchmark
from nnunet_active.benchmark.configuration import Arm, Configuration
from nnunet_active.benchmark.execution import Job


def configuration(**more) -> Configuration:
    content = {
        "dataset": NAME,
        "configuration": "3d_fullres",
        "plans": PLANS,
        "arms": (Arm("random"), Arm("entropy")),
        "budget": 2,
        "stride": 1,
        "iterations": 1,
        "seeds": (0,),
        "splits": 3,
        "device": "cpu",
        "lr": 1e-3,
        "all_labels": False,
    }
    return Configuration(**{**content, **more})


def tiny_benchmark(folders: Path, name: str = "benchmark", **more) -> Benchmark:
    """Prepared from a tiny target that is made where there is none yet."""
    if not (folders / "nnUNet_raw" / NAME).is_dir():
        make_target(folders)
    return prepare_benchmark(configuration(**more), folders / name, None)


def job_of(benchmark: Benchmark, arm: str) -> Job:
    return next(job for job in benchmark.open_jobs() if job.spec.arm == arm)
