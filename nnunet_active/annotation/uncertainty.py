"""The uncertainty map: the entropy of the network's output per voxel, in nats."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from nnunet_active.scoring.temperature import tempered

SLAB_VOXELS = 2**20
# Step of the stored map (our choice): too small to change an image or a mean noticeably, but the file gets several times smaller.
STEP_NATS = 2.0**-14
_LOWEST_LOG = math.log(1e-10)


def entropy_map(logits: Tensor, regions: bool = False, temperature: float = 1.0) -> np.ndarray:
    """H(v) = -sum_c p_c ln p_c of the softmax; for regions, the sum of the heads' binary entropies (the joint entropy of independent
    labels, our choice), as in ``scoring.statistics``. Computed slab by slab, to avoid a second copy of the logits.

    Args:
        logits: (C, Z, Y, X), any float type.
        regions: sigmoid heads instead of a softmax.
        temperature: see :mod:`nnunet_active.scoring.temperature`.

    Returns:
        (Z, Y, X) float32, rounded to steps of 2**-14 nats.
    """
    flat = logits.reshape(logits.shape[0], -1)
    entropy = torch.empty(flat.shape[1])
    for start in range(0, flat.shape[1], SLAB_VOXELS):
        part = tempered(flat[:, start : start + SLAB_VOXELS], temperature, regions)
        if regions:
            p = torch.sigmoid(part)
            slab = (torch.special.entr(p) + torch.special.entr(torch.sigmoid(-part))).sum(0)
        else:
            logs = torch.log_softmax(part, 0)
            slab = -(logs.exp() * logs.clamp_min(_LOWEST_LOG)).sum(0)
        entropy[start : start + SLAB_VOXELS] = ((slab / STEP_NATS).round() * STEP_NATS).cpu()
    return entropy.reshape(logits.shape[1:]).numpy()
