from __future__ import annotations

import pytest

from nnunet_active.util.launched import (
    number_of_process,
    number_on_machine,
    processes_of_command,
    processes_on_machine,
)

TORCHRUN = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


def numbers(monkeypatch, environment: dict[str, str]) -> tuple[int, int, int]:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return processes_of_command(), number_of_process(), number_on_machine()


def test_what_torchrun_says_is_believed(monkeypatch):
    assert numbers(monkeypatch, TORCHRUN) == (4, 3, 1)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert processes_on_machine() == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert processes_on_machine() == 2
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert processes_on_machine() == 1


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"RANK": "3", "WORLD_SIZE": "4"},  # some clusters set these for every job
        {**TORCHRUN, "WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"},
        {**TORCHRUN, "WORLD_SIZE": "many"},
        {**TORCHRUN, "RANK": ""},
    ],
)
def test_otherwise_a_process_is_alone(monkeypatch, environment):
    assert numbers(monkeypatch, environment) == (1, 0, 0)
