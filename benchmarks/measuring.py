"""Run a command in a process of its own and measure wall clock, processor time and peak memory of its whole process tree."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_SECONDS = 0.05
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
        peak_mib: largest sum over the process tree of the anonymous memory (heap and stacks), from ``Pss_Anon`` in /proc (Linux):
            pages that a fork shares with its parent count once, the code of libraries does not count. Sampled every 0.05 s,
            so that a very short peak may be missed.
        pss_mib: the same for all pages (``Pss``), library code included; that part is smaller while other processes of the
            machine use the same libraries.
        output: what it printed on stdout.
    """

    wall: float
    cpu: float
    peak_mib: float
    pss_mib: float
    output: str


def run_measured(command: Sequence[str], **environment: str) -> Measured:
    """Run ``command`` with one thread; stops the benchmark if it fails."""
    start = time.perf_counter()
    process = subprocess.Popen(
        list(command),
        env={**os.environ, **ONE_THREAD, **environment},
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
    anonymous, everything = (sampler.peaks[name] / 1024 for name in ("Pss_Anon", "Pss"))
    return Measured(wall, usage.ru_utime + usage.ru_stime, anonymous, everything, output)


class _TreeSampler(threading.Thread):
    def __init__(self, session: int) -> None:
        super().__init__(daemon=True)
        self.session = session
        self.peaks = {"Pss_Anon": 0, "Pss": 0}
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            totals = dict.fromkeys(self.peaks, 0)
            for process in self._members():
                for name, kib in _sizes(process).items():
                    if name in totals:
                        totals[name] += kib
            self.peaks = {name: max(self.peaks[name], total) for name, total in totals.items()}

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def _members(self) -> list[Path]:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                if int((process / "stat").read_text().rpartition(")")[2].split()[3]) == self.session:
                    found.append(process)
        return found


def _sizes(process: Path) -> dict[str, int]:
    """The entries of ``smaps_rollup`` in KiB."""
    with contextlib.suppress(OSError, ValueError):  # it may end at any moment
        lines = (process / "smaps_rollup").read_text().splitlines()[1:]
        return {line.partition(":")[0]: int(line.split()[1]) for line in lines}
    return {}
