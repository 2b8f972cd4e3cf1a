r"""A temperature for a network's logits, so that where it is 90 % sure it is right nine times in ten (after Guo et al., ICML 2017).

Only doubt grows. With m(v) the distance of the highest logit from the next (regions: the distance of each head's logit from 0) and
``M = ln 99``, from where on the network is 99 % sure:

    l'(v) = l(v) (min(m, M) / T + max(m - M, 0)) / m

``T = argmin mean_i mean_v -ln softmax(l'(v))_{y(v)}`` over cases i and labelled voxels v of which the network is less sure; regions:
the binary cross-entropy, summed over the heads. T > 1 where the network is too sure. It changes no arg-max, and no region. The bend is
our choice: with l / T, the sure background of a scan decides, and maps stay too sure near objects (there the calibration error was 0.17
to 0.19, in place of 0.08 to 0.10), or the background becomes doubtful (``benchmarks/map_calibration.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

BOUNDS = (0.25, 10.0)
"""What a temperature may be (our choice): few cases must not flatten a map altogether."""
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
    """The module's mean at a temperature, in nats.

    Args:
        samples: of every case logits (C, n) of any float dtype, and the truth: (n,) int64 heads, or (C, n) bool for regions.
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
