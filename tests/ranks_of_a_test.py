"""Several processes of ``torch.distributed`` for one test, which end for certain once their work is done."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed, multiprocessing


def _rank(rank: int, work: Callable[[int, Path], None], folder: Path, world: int) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world, timeout=timedelta(minutes=5)
    )
    work(rank, folder)
    (folder / f"done_{rank}").touch()
    while not all((folder / f"done_{other}").exists() for other in range(world)):
        time.sleep(0.01)  # one that goes first would break the connection that the other still uses
    # A thread of gloo that lets go of a Python object while the interpreter shuts down aborts the process.
    os._exit(0)


def on_ranks(work: Callable[[int, Path], None], folder: Path, world: int = 2) -> None:
    """Call ``work(rank, folder)`` in ``world`` processes that are joined by gloo; what one raises fails the test."""
    multiprocessing.spawn(_rank, (work, folder, world), nprocs=world)
