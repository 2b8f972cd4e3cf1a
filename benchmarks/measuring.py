"""Run a command in a process of its own and measure wall clock, processor time and peak memory of its whole process tree."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_SECONDS = 0.1
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "nnUNet_def_n_proc": "1",
    "nnUNet_n_proc_DA": "1",
    "nnUNet_compile": "f",
}


@dataclass(frozen=True)
class Measured:
    """A finished command.

    Attributes:
        wall: seconds from start to end.
        cpu: processor seconds of the process and of all its descendants that it waited for.
        tree_mib: largest sum over the process tree of the proportional set sizes (pages that several processes share are
            counted once), sampled every 0.1 s, so that a short peak may be missed; 0 where there is no /proc.
        own_mib: peak resident set of the largest single process, from the operating system, exact.
        output: what it printed on stdout.
    """

    wall: float
    cpu: float
    tree_mib: float
    own_mib: float
    output: str

    @property
    def peak_mib(self) -> float:
        """The larger of the two: never less than either measurement."""
        return max(self.tree_mib, self.own_mib)


def run_measured(command: Sequence[str], **environment: str) -> Measured:
    """Run ``command`` with one thread; stops the benchmark if it fails."""
    environment = {**os.environ, **ONE_THREAD, **environment}
    start = time.perf_counter()
    process = subprocess.Popen(
        list(command),
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # the sampler knows the tree by its session
    )
    sampler = _TreeSampler(process.pid)
    sampler.start()
    errors: list[str] = []
    reader = threading.Thread(target=lambda: errors.append(process.stderr.read()))
    reader.start()
    output = process.stdout.read()
    reader.join()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - start
    sampler.stop()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{output}\n{errors[0]}")
    own = usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    return Measured(wall, usage.ru_utime + usage.ru_stime, sampler.peak_kib / 1024, own, output)


class _TreeSampler(threading.Thread):
    def __init__(self, session: int) -> None:
        super().__init__(daemon=True)
        self.session = session
        self.peak_kib = 0
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self.peak_kib = max(self.peak_kib, sum(_pss_kib(process) for process in self._members()))

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def _members(self) -> list[Path]:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == self.session:
                    found.append(process)
        return found


def _pss_kib(process: Path) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):  # it may end at any moment
        for line in (process / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0
