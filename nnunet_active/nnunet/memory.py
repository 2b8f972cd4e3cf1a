"""How much memory is free for logits: for the windows of a pass, or for a whole volume."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import torch

from nnunet_active.util.errors import BadCase
from nnunet_active.util.launched import processes_on_machine

SHARE = 0.5
"""Share of the free memory for logits; the rest is for the network's own work and for what is computed from them (our choice)."""

# Linux control groups, version 2 and version 1: their folder, the limit, the memory in use, and which of that is only file
# cache
_GROUPS = (
    ("", Path("/sys/fs/cgroup"), "memory.max", "memory.current", ("inactive_file", "active_file")),
    (
        "memory",
        Path("/sys/fs/cgroup/memory"),
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        ("total_inactive_file", "total_active_file"),
    ),
)


def free_memory(device: torch.device) -> int | None:
    """Free bytes on a device; None if unknown."""
    if device.type == "cuda":
        # what PyTorch holds without using it is free as well
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # not Linux
        return None
    kilobytes = {line.partition(":")[0]: line.split()[1] for line in lines}.get("MemAvailable")
    return None if kilobytes is None else min([1024 * int(kilobytes), *_left_in_groups()])


def _left_in_groups() -> Iterator[int]:
    """What a container or a cluster job leaves of the machine's memory for its processes: one number for every limit."""
    try:
        mine = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return
    for _, controllers, name in mine:
        for controller, root, limit, used, kept in _GROUPS:
            if controller not in controllers.split(","):
                continue
            group = PurePosixPath(name.lstrip("/"))
            for folder in (root / group, *(root / parent for parent in group.parents)):
                try:
                    most, now = (int((folder / file).read_text()) for file in (limit, used))
                    facts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                except (OSError, ValueError):  # missing, or the limit is "max": no limit
                    continue
                yield max(0, most - now + sum(int(facts.get(one, 0)) for one in kept))


def room_for_logits(device: torch.device) -> int | None:
    """Bytes that the buffers of the passes over an image may take on a device; None if no limit is known.

    Several processes of one command on this machine share its memory, but each GPU has its own.
    """
    free = free_memory(device)
    places = torch.cuda.device_count() if device.type == "cuda" else 1
    sharing = -(-processes_on_machine() // max(1, places))
    return None if free is None else int(SHARE * free / sharing)


def require_memory(logits: int) -> None:
    """Make sure that this many half-precision logits fit into the host's memory, before the system kills the process.

    Raises:
        BadCase: they do not fit; the message says how much is needed and how much is free.
    """
    free = free_memory(torch.device("cpu"))
    if free is not None and 2 * logits > free:
        raise BadCase(
            f"its logits of all classes need {2 * logits / 2**30:.1f} GiB of memory and {free / 2**30:.1f} GiB are free. It can be "
            f"scored and chosen, but a prediction on the scan's own voxels needs a machine with more memory."
        )
