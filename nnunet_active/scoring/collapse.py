r"""Detect a class that the adapted network no longer predicts although the source network was confident of it.

With p the source network's probability of class c and m its mask of c, the soft Dice confidence (arXiv:2402.10665) is

    SDC(c) = 2 \sum p m / (\sum p + \sum m).

V_0(c) and V(c) are the volumes that the source and the adapted network predict. Class c has collapsed if V(c) < `SHARE` V_0(c) and
SDC(c) > `SURE`. (Our own rule; ``benchmarks/guard.py`` tests it.)
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nnunet_active.scoring.arg_max import highest_head
from nnunet_active.scoring.groups import sum_by_group
from nnunet_active.scoring.statistics import slabs
from nnunet_active.scoring.voxels import Softmax, two_heads
from nnunet_active.scoring.voxels import regions as region_voxels

SHARE = 0.5
SURE = 0.8


@torch.inference_mode()
def predicted_volumes(logits: Tensor, regions: bool = False) -> np.ndarray:
    """The number of predicted voxels of every head, (C,) int64.

    Args:
        logits: (C, Z, Y, X) of any float dtype, on any device.
        regions: sigmoid heads instead of a softmax.
    """
    heads = len(logits)
    volume = torch.zeros(heads, dtype=torch.float64)
    for part in slabs(logits):
        flat = logits[:, part].reshape(heads, -1)
        volume += ((flat > 0).sum(1) if regions else sum_by_group(highest_head(flat), None, heads)).cpu()
    return volume.long().numpy()


@torch.inference_mode()
def volumes_and_confidence(logits: Tensor, regions: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """:func:`predicted_volumes` and the soft Dice confidence (C,) float64, 0 where nothing is predicted."""
    heads = len(logits)
    of_voxels = region_voxels if regions else two_heads if heads == 2 else Softmax(heads, logits.device)
    volume, sure, mass = torch.zeros((3, heads), dtype=torch.float64)
    for part in slabs(logits):
        found = of_voxels(logits[:, part].reshape(heads, -1))
        volume += (found.predicted.sum(1) if regions else sum_by_group(found.label, None, heads)).cpu()
        sure += (found.sure if regions else sum_by_group(found.label, found.highest.double(), heads)).cpu()
        mass += found.mass.cpu()
    confidence = torch.where(volume > 0, 2 * sure / (mass + volume).clamp(min=1), 0.0)
    return volume.long().numpy(), confidence.numpy()


def collapsed(volume: np.ndarray, source_volume: np.ndarray, source_confidence: np.ndarray) -> np.ndarray:
    """Which classes have collapsed by the module's rule, (C,) bool; all arguments (C,).

    >>> collapsed(np.array([40, 0, 0]), np.array([100, 100, 0]), np.array([0.9, 0.7, 0.0]))
    array([ True, False, False])
    """
    return (volume < SHARE * source_volume) & (source_confidence > SURE)
