"""Trainings with augmentation workers that are killed at any moment and continued: the same end, and nobody left behind."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import time
from pathlib import Path

import pytest
from killed_process import in_a_fork, needs_fork
from tiny_rounds import copy_of, make_once
from tiny_target import Target
from tiny_training import output_folder, start, trainer_of

from nnunet_active.campaign.campaign import Campaign

pytestmark = [needs_fork, pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="needs /proc")]
EXPECTED: dict[str, list[str]] = {}
"""What the first training asked for; the random strategy does not depend on the weights, which two workers leave to chance."""


@pytest.fixture(scope="module")
def trained_on(tmp_path_factory) -> Target:
    return make_once(tmp_path_factory.mktemp("trained"), 6, 0)


def train(target: Target) -> None:
    os.environ["nnUNet_n_proc_DA"] = "2"
    resume = (output_folder(target) / "checkpoint_latest.pth").is_file()
    with contextlib.redirect_stdout(io.StringIO()):
        trainer_of(target, resume=resume).run_training()


def children_of(process: int) -> list[int]:
    """All that descend from a process."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [process]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def is_there(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill_training(target: Target, seconds: float, root: Path, patch: pytest.MonkeyPatch) -> None:
    copied = copy_of(target, root)
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        patch.setenv(variable, str(root / variable))
    start(copied, strategy="random", budget=2, stride=1, epochs=3)
    process = in_a_fork(lambda: train(copied), lambda: None)
    end = time.monotonic() + 60
    while not children_of(process) and time.monotonic() < end and is_there(process):
        time.sleep(0.02)
    time.sleep(seconds)
    workers = children_of(process)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    end = time.monotonic() + 20
    while any(map(is_there, workers)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(map(is_there, workers)), "workers outlive their training"
    last = in_a_fork(lambda: train(copied), lambda: None)
    assert os.waitpid(last, 0)[1] == 0
    campaign = Campaign.open(copied.preprocessed, 0)
    assert len(campaign.rounds) == 2 and campaign.exhausted and campaign.labelled() == sorted(campaign.requested())
    assert campaign.requested() == EXPECTED.setdefault("requested", campaign.requested())
    assert (output_folder(copied) / "checkpoint_final.pth").is_file()
    assert not [path for path in root.rglob(".*.tmp")]


@pytest.mark.parametrize("seconds", [0.3])
def test_a_killed_training_with_two_workers_goes_on_to_the_same_end_and_leaves_nobody_behind(
    trained_on, seconds, tmp_path, monkeypatch
):
    kill_training(trained_on, seconds, tmp_path, monkeypatch)


@pytest.mark.long
@pytest.mark.parametrize("number", range(100))
def test_a_hundred_killed_trainings(trained_on, number, tmp_path, monkeypatch):
    kill_training(trained_on, number * 0.05, tmp_path, monkeypatch)
