"""Whether ``torchrun`` has started several processes for one command: found from the environment alone, without PyTorch."""

from __future__ import annotations

import os

_MEETING = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def _number(variable: str) -> int | None:
    value = os.environ.get(variable, "")
    return int(value) if value.isascii() and value.isdecimal() else None


def processes_of_command() -> int:
    """How many processes were started for this command, on all machines together."""
    launched = all(os.environ.get(name) for name in _MEETING) and _number("RANK") is not None
    return (_number("WORLD_SIZE") or 1) if launched else 1


def number_of_process() -> int:
    """The number of this process among them, from 0."""
    return (_number("RANK") or 0) if processes_of_command() > 1 else 0


def processes_on_machine() -> int:
    """How many of them are on this machine, as far as is known."""
    return max(1, _number("LOCAL_WORLD_SIZE") or 1) if processes_of_command() > 1 else 1


def number_on_machine() -> int:
    """The number of this process among those on this machine, from 0."""
    return (_number("LOCAL_RANK") or 0) if processes_of_command() > 1 else 0
