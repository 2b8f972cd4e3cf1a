"""How much memory is free for logits: of the windows of a pass, or of a whole volume."""

from __future__ import annotations

from pathlib import Path

import torch

from nnunet_active.util.errors import BadCase

SHARE = 0.5
"""Of the free memory; the rest is for the network's own work and for what is computed from the logits (our choice)."""


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on a device; None: nobody can tell."""
    if device.type == "cuda":
        # what PyTorch holds and does not use is free as well
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # not Linux
        return None
    kilobytes = {line.partition(":")[0]: line.split()[1] for line in lines}.get("MemAvailable")
    return None if kilobytes is None else 1024 * int(kilobytes)


def room_for_logits(device: torch.device) -> int | None:
    """Bytes that the buffers of the passes over an image may take on a device; None: no limit is known."""
    free = free_memory(device)
    return None if free is None else int(SHARE * free)


def require_memory(logits: int) -> None:
    """Make sure that so many half-precision logits fit into the host's memory, before the system ends the process for it.

    Raises:
        BadCase: says what is needed and what there is.
    """
    free = free_memory(torch.device("cpu"))
    if free is not None and 2 * logits > free:
        raise BadCase(
            f"its logits of all classes need {2 * logits / 2**30:.1f} GiB of memory and {free / 2**30:.1f} GiB are free. It can be "
            f"scored and chosen, but a prediction on the scan's own voxels needs a machine with more memory."
        )
