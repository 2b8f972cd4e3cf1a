"""Images that go to a GPU while it still works on another one, so that it does not wait for them."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor


def send_ahead(image: np.ndarray, device: torch.device) -> np.ndarray | Tensor:
    """A copy of the image on a GPU, made beside the work queued there; for any other device, the image itself.

    Call it in a thread of its own, as it returns when the copy is complete. If the GPU has no room, the image stays where it is.

    Args:
        image: (M, Z, Y, X) float32.
        device: where a network will take it from, see :func:`arrived`.
    """
    if device.type != "cuda":
        return image
    beside = _stream(device)
    try:
        with torch.cuda.stream(beside):
            sent = torch.from_numpy(image).to(device)
    except torch.cuda.OutOfMemoryError:
        return image
    beside.synchronize()
    return sent


def arrived(image: np.ndarray | Tensor) -> Tensor:
    """The image as a tensor, where it is; its memory is not used anew before the work that is queued on it from now on is done."""
    tensor = torch.as_tensor(image)
    if tensor.device.type == "cuda":
        # it was made on another stream, whose next copy could otherwise overwrite it
        tensor.record_stream(torch.cuda.current_stream(tensor.device))
    return tensor


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """One stream for each GPU: PyTorch keeps freed memory for the stream that used it."""
    return torch.cuda.Stream(device)
