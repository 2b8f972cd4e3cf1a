"""Processes that die: what a kill at any moment leaves behind must be whole."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable

import pytest

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def in_a_fork(action: Callable[[], object], prepare: Callable[[], object]) -> int:
    """The number of a process that prepares, acts, and ends with 0, or with 1 and a traceback."""
    process = os.fork()
    if process:
        return process
    try:
        prepare()
        action()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _killed(process: int) -> bool:
    status = os.waitpid(process, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the action itself failed"
    return False


def killed_before_rename(action: Callable[[], object], number: int) -> bool:
    """Run ``action`` in a process that is killed just before its n-th rename (0, 1, ...); False: it ended before."""
    renames = 0

    def hook(event: str, args: tuple) -> None:
        nonlocal renames
        if event == "os.rename":
            if renames == number:
                os.kill(os.getpid(), signal.SIGKILL)
            renames += 1

    return _killed(in_a_fork(action, lambda: sys.addaudithook(hook)))


def killed_after(action: Callable[[], object], seconds: float) -> bool:
    """Run ``action`` in a process that is killed after a time; False: it ended before."""
    process = in_a_fork(action, lambda: None)
    end = time.monotonic() + seconds
    while time.monotonic() < end and not os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    return _killed(process)


def seconds_of(action: Callable[[], object]) -> float:
    """How long an action takes in a process of its own: moments to kill it at are drawn from this span."""
    begin = time.monotonic()
    assert not _killed(in_a_fork(action, lambda: None))
    return time.monotonic() - begin
