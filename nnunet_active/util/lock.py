"""One writer per campaign: a lock that the operating system frees when its holder dies, and that says who holds it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from nnunet_active.util.atomic import write_json
from nnunet_active.util.errors import CampaignInUse

HOLDER = ".lock_holder.json"
TRAINING = "a training"


@dataclass(frozen=True)
class Holder:
    """Who holds a lock: a process, on which host, since when (local time), and what it does."""

    pid: int
    host: str
    since: str
    doing: str = ""


@contextmanager
def hold(folder: Path, doing: str = "") -> Iterator[None]:
    """Hold the lock of ``folder`` (``.lock`` in it) for the time of the context.

    Args:
        folder: made if it is not there.
        doing: what for, for those who find it held.

    Raises:
        CampaignInUse: another process holds it; says which process, on which host, since when.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    holder = folder / HOLDER
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise CampaignInUse(
            f"{folder} is in use by {_describe(holder)}; wait until it has ended, or stop it, and run the same command again."
        ) from None
    try:
        since = datetime.now().isoformat(timespec="seconds")
        write_json(holder, asdict(Holder(os.getpid(), socket.gethostname(), since, doing)))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def holder_of(folder: Path) -> Holder | None:
    """Who holds the lock of ``folder`` now, as far as that is known; the lock itself is not touched."""
    holder = _read(folder / HOLDER)
    if holder is None or (holder.host == socket.gethostname() and not _is_alive(holder.pid)):
        return None  # a killed process leaves its note behind
    return holder


def _describe(file: Path) -> str:
    holder = _read(file)
    if holder is None:
        return "another process"
    what = f"{holder.doing}, " if holder.doing else ""
    return f"{what}process {holder.pid} on {holder.host} (since {holder.since})"


def _read(file: Path) -> Holder | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        texts = {name: str(content[name]) for name in ("host", "since")}
        return Holder(int(content["pid"]), **texts, doing=str(content.get("doing", "")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _is_alive(pid: int) -> bool:
    if pid <= 0:
        return False
    if os.name == "nt":  # there the signal 0 is not a question
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # somebody else's process
        return True
    return True
