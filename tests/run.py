"""The tests as the README runs them: lint first, then all tests that are no long experiments, on all cores.

.venv/bin/python tests/run.py [pytest arguments]
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    for check in (["check"], ["format", "--check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *check, "."], cwd=ROOT)
        if done.returncode:
            return done.returncode
    # two processes with one thread each are faster, and steadier, than one with two
    environment = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    environment.pop(
        "PYTHONDONTWRITEBYTECODE", None
    )  # else each of the many processes that tests start compiles the package anew
    workers = str(min(os.cpu_count() or 1, 8))
    command = [sys.executable, "-m", "pytest", "-m", "not long", "-n", workers, "--dist", "worksteal", *sys.argv[1:]]
    return subprocess.run(command, cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
