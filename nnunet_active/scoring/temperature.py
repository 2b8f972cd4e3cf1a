r"""A temperature for a network's logits, so that where it is 90 % sure it is right nine times in ten (Guo et al., ICML 2017).

``T = argmin mean_i mean_v -ln softmax(l(v) / T)_{y(v)}`` over cases i and their labelled voxels v; regions: the binary cross-entropy,
summed over the heads. T > 1 where the network is too sure. It changes no arg-max, and no region, only how sure they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

BOUNDS = (0.25, 10.0)
"""What a temperature may be (our choice): few cases must not flatten a map altogether."""


def mean_surprise(samples: Sequence[tuple[Tensor, Tensor]], temperature: float, regions: bool = False) -> float:
    """The module's mean at a temperature, in nats.

    Args:
        samples: of every case logits (C, n) of any float dtype, and the truth: (n,) int64 heads, or (C, n) bool for regions.
        temperature: T.
        regions: sigmoid heads instead of a softmax.
    """
    found = []
    for logits, truth in samples:
        scaled = logits.float() / temperature
        if regions:
            found.append(
                functional.binary_cross_entropy_with_logits(scaled, truth.float(), reduction="none").sum(0).mean()
            )
        else:
            found.append(functional.cross_entropy(scaled.T, truth))
    return float(torch.stack(found).mean())


def fit_temperature(samples: Sequence[tuple[Tensor, Tensor]], regions: bool = False) -> float:
    """The temperature within `BOUNDS` that fits best; 1 without a voxel.

    Args:
        samples, regions: as for :func:`mean_surprise`.
    """
    from scipy.optimize import minimize_scalar  # not above: it takes half a second to import, for this one number

    samples = [sample for sample in samples if sample[0].shape[1]]
    if not samples:
        return 1.0
    bounds = tuple(map(math.log, BOUNDS))
    found = minimize_scalar(
        lambda log: mean_surprise(samples, math.exp(log), regions),
        bounds=bounds,
        method="bounded",
        options={"xatol": 1e-3},
    )
    return float(math.exp(found.x))
