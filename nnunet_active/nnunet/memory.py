"""How much memory is free for the logits of a pass."""

from __future__ import annotations

from pathlib import Path

import torch

SHARE = 0.5
"""Of the free memory; the rest is for the network's own work and for what is computed from the logits (our choice)."""


def room_for_logits(device: torch.device) -> int | None:
    """Bytes that the buffers of logits may take on a device; None: nobody can tell, so there is no limit."""
    if device.type == "cuda":
        # what PyTorch holds and does not use is free as well
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(SHARE * (torch.cuda.mem_get_info(device)[0] + unused))
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # not Linux
        return None
    kilobytes = {line.partition(":")[0]: line.split()[1] for line in lines}.get("MemAvailable")
    return None if kilobytes is None else int(SHARE * 1024 * int(kilobytes))
