r"""How far several predictions of one case agree: the Dice of every pair of them, class by class.

``s(c) = mean over the pairs i < j of 2 |A_i and A_j| / (|A_i| + |A_j|)`` with A_i the voxels that member i assigns to c. A pair
counts 1 if both are empty and 0 if one is (Zenk et al., Medical Image Analysis 2025; their members are several trained networks or
dropout passes). Members can be mirrored passes of one network, folds, or one network at several alpha.

All members are read in step, slab by slab, so no member's whole volume or label map is held.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nnunet_active.scoring.arg_max import highest_head
from nnunet_active.scoring.groups import sum_by_group


class Agreement:
    """Counts voxels over slabs; their order and size do not matter.

    Args:
        regions: sigmoid heads, each one a class, instead of a softmax whose first head is the background.
    """

    def __init__(self, regions: bool = False) -> None:
        self.regions = regions
        self._shared: Tensor | None = None

    @torch.inference_mode()
    def add(self, members: Sequence[Tensor]) -> None:
        """Add the same slab of every member.

        Args:
            members: logits (C, ...) of any float dtype, all of one shape and on one device.

        Raises:
            ValueError: no member.
        """
        if not members:
            raise ValueError("agreement needs a member")
        if members[0].device.type == "mps":  # MPS has no float64
            members = [logits.cpu() for logits in members]
        shared = self._regions(members) if self.regions else self._classes(members)
        self._shared = shared if self._shared is None else self._shared + shared

    def _classes(self, members: Sequence[Tensor]) -> Tensor:
        heads = len(members[0])
        labels = torch.stack([highest_head(logits).flatten() for logits in members])
        labels = labels[
            :, (labels > 0).any(0)
        ]  # drops the voxels that every member calls background, which are most of them
        shared = torch.zeros((len(members), len(members), heads), dtype=torch.float64, device=labels.device)
        for i, one in enumerate(labels):
            for j, other in enumerate(labels[: i + 1]):
                where = torch.where(one == other, one, 0)
                shared[i, j] = shared[j, i] = sum_by_group(where, None, heads)
        return shared[..., 1:]

    def _regions(self, members: Sequence[Tensor]) -> Tensor:
        found = torch.stack([logits.reshape(len(logits), -1) > 0 for logits in members])
        found = found[..., found.any(0).any(0)]
        shared = [[(one & other).sum(1) for other in found] for one in found]
        return torch.stack([torch.stack(row) for row in shared]).double()

    def shared(self) -> np.ndarray:
        """Voxels that members i and j both assign to c, (K, K, classes) int64; on the diagonal, the member's volume.

        Raises:
            ValueError: nothing was added.
        """
        if self._shared is None:
            raise ValueError("agreement needs a member")
        return self._shared.cpu().numpy().astype(np.int64)


def dice_of_pairs(shared: np.ndarray) -> np.ndarray:
    """Dice of every two members, (K, K, classes) float64, from :meth:`Agreement.shared`; 1 where both are empty.

    >>> dice_of_pairs(np.array([[[4], [2]], [[2], [2]]])).round(2).squeeze(2).tolist()
    [[1.0, 0.67], [0.67, 1.0]]
    """
    own = np.diagonal(shared).T  # (K, classes)
    total = own[:, None] + own[None]
    return np.divide(2.0 * shared, total, out=np.ones(shared.shape), where=total > 0)


def pairwise_dice(shared: np.ndarray) -> np.ndarray:
    """The module's s(c), (classes,) float64, from :meth:`Agreement.shared`; 1 for a single member."""
    if len(shared) == 1:
        return np.ones(shared.shape[-1])
    one, other = np.triu_indices(len(shared), 1)
    return dice_of_pairs(shared)[one, other].mean(0)
