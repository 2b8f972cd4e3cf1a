"""One writer per campaign: a lock that names its holder, and that the operating system frees when the holder dies."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from nnunet_active.util.atomic import write_json
from nnunet_active.util.errors import CampaignInUse
from nnunet_active.util.moments import for_people, now_in_utc


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold the lock of ``folder`` (``.lock`` in it) during the context.

    Raises:
        CampaignInUse: another process holds it; the message says which process, on which host, since when.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    holder = folder / ".lock_holder.json"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise CampaignInUse(
            f"{folder} is in use by {_describe(holder)}; wait until it has ended, or stop it, and run the same command again."
        ) from None
    try:
        write_json(holder, {"pid": os.getpid(), "host": socket.gethostname(), "since": now_in_utc()})
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


@contextmanager
def wait_for(file: Path, say: Callable[[], None]) -> Iterator[None]:
    """Hold the lock ``file`` during the context; if another process holds it, call ``say`` once and wait."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _describe(holder: Path) -> str:
    try:
        content = json.loads(holder.read_text())
        return f"process {content['pid']} on {content['host']} (since {for_people(content['since'])})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
