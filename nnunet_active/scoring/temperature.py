r"""A temperature for a network's logits, so that it is right nine times in ten where it is 90 % sure (after Guo et al., ICML 2017).

The temperature changes only the range in which the network has doubts. m(v) is the distance of the highest logit from the next
(regions: of each head's logit from 0); at ``M = ln 99`` and above, the network is at least 99 % sure:

    l'(v) = l(v) (min(m, M) / T + max(m - M, 0)) / m

``T = argmin mean_i mean_v -ln softmax(l'(v))_{y(v)}`` over cases i and labelled voxels v with m < M; regions: the binary
cross-entropy, summed over the heads. T > 1 if the network is too sure. No arg-max or region changes. The bend at M is our choice: with
plain l / T, the sure background of a scan dominates. Either maps stay too sure near objects (calibration error there 0.17 to 0.19,
instead of 0.08 to 0.10), or the background becomes doubtful (``benchmarks/map_calibration.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

BOUNDS = (0.25, 10.0)
"""Limits of a temperature (our choice): a few cases must not flatten a map completely."""
SURE = math.log(99)
"""M."""


def tempered(logits: Tensor, temperature: float, regions: bool = False) -> Tensor:
    """l', float32.

    Args:
        logits: (C, ...) of any float dtype.
        temperature: T.
        regions: sigmoid heads instead of a softmax.
    """
    logits = logits.float()
    if temperature == 1:
        return logits
    margin = _margin(logits, regions).clamp_min(1e-6)
    return logits * ((margin.clamp(max=SURE) / temperature + (margin - SURE).clamp_min(0)) / margin)


def doubtful(logits: Tensor, regions: bool = False) -> Tensor:
    """Voxels with a margin below M (regions: of any head), (...) bool.

    Args:
        logits, regions: as for :func:`tempered`.
    """
    unsure = _margin(logits.float(), regions) < SURE
    return unsure.any(0)


def _margin(logits: Tensor, regions: bool) -> Tensor:
    """m, (C, ...) for regions, else (1, ...)."""
    if regions:
        return logits.abs()
    highest = logits.topk(2, 0).values
    return highest[:1] - highest[1:]


def mean_surprise(samples: Sequence[tuple[Tensor, Tensor]], temperature: float, regions: bool = False) -> float:
    """The mean in the module's formula at one temperature, in nats.

    Args:
        samples: for each case, logits (C, n) of any float dtype, and the truth: (n,) int64 heads, or (C, n) bool for regions.
        temperature: T.
        regions: sigmoid heads instead of a softmax.
    """
    found = []
    for logits, truth in samples:
        scaled = tempered(logits, temperature, regions)
        if regions:
            found.append(
                functional.binary_cross_entropy_with_logits(scaled, truth.float(), reduction="none").sum(0).mean()
            )
        else:
            found.append(functional.cross_entropy(scaled.T, truth))
    return float(torch.stack(found).mean())


def fit_temperature(samples: Sequence[tuple[Tensor, Tensor]], regions: bool = False) -> float:
    """The temperature within `BOUNDS` that fits best; 1 if there is no voxel to fit.

    Args:
        samples, regions: as for :func:`mean_surprise`.
    """
    from scipy.optimize import minimize_scalar  # not at the top: the import takes half a second, for this one number

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
