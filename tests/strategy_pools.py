"""Synthetic pools for the tests of the strategies: numbers only, with everything any strategy may ask for."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nnunet_active.strategies import ScoredPool


def make_pool(n: int = 24, labelled: int = 3, d: int = 6, classes: int = 3, seed: int = 0, **changes) -> ScoredPool:
    """A pool of ``n`` candidates whose identifiers are not in sorted order."""
    rng = np.random.default_rng(seed)
    cases = [f"case_{i:05d}" for i in rng.permutation(n + labelled)]
    centres = rng.normal(size=(4, d)) * 3
    embedding = centres[rng.integers(4, size=n + labelled)] + rng.normal(size=(n + labelled, d))
    volume = np.column_stack([np.full(n, 1000.0), rng.integers(0, 400, size=(n, classes - 1))])
    volume[rng.random(volume.shape) < 0.2] = 0
    volume[:, 0] = 1000
    foreground = volume[:, 1:].sum(axis=1)
    empty = foreground == 0
    entropy = rng.random(n) * 0.3
    scores = {
        "mean_entropy": entropy,
        "foreground_voxels": foreground,
        "foreground_mm3": foreground * 1.5,
        "foreground_entropy": np.where(empty, np.nan, rng.random(n)),
        "confidence": np.where(empty, np.nan, rng.random(n)),
        "mean_margin": 1 - rng.random(n) * 0.2,
        "mean_max_probability": 1 - rng.random(n) * 0.1,
        "soft_foreground_entropy": rng.random(n),
        "class_balanced_entropy": np.where(empty, np.nan, rng.random(n)),
        "density": rng.integers(1, n + 1, size=n) / n,
        "voxels": volume.sum(axis=1),
        "mutual_information": rng.random(n) * 0.05,
        "kl_source": rng.random(n),
    }
    class_mean = embedding[:n, None, :] * rng.random((n, classes, 1)) * (volume > 0)[:, :, None]
    values = {
        "scores": pd.DataFrame(scores, index=cases[:n]),
        "arrays": {"embedding": embedding[:n], "class_volume": volume, "class_mean": class_mean},
        "labelled_cases": tuple(cases[n:]),
        "labelled_arrays": {"embedding": embedding[n:]} if labelled else {},
        "source_summary": {"centroids": rng.normal(size=(3, d)), "covariances": np.stack([np.eye(d)] * 3)},
        "rounds": 5,
    }
    values["arrays"] |= changes.pop("arrays", {})
    values["scores"] = values["scores"].assign(**changes.pop("columns", {}))
    return ScoredPool(**(values | changes))


def from_embedding(z: np.ndarray, labelled: np.ndarray | None = None, **columns) -> ScoredPool:
    """A pool that is an embedding (n, d) and perhaps some columns; identifiers c000, c001, ... in order."""
    m = 0 if labelled is None else len(labelled)
    return ScoredPool(
        pd.DataFrame(columns, index=[f"c{i:03d}" for i in range(len(z))]),
        {"embedding": np.asarray(z, dtype=float)},
        tuple(f"l{i:03d}" for i in range(m)),
        {"embedding": np.asarray(labelled, dtype=float)} if m else {},
    )


def indices(selection) -> list[int]:
    """The picks of a pool made by :func:`from_embedding` as row numbers."""
    return [int(pick[1:]) for pick in selection.picks]


def small_pool(*cases: str) -> ScoredPool:
    """Cases with one score: 0, 1, 2, ..."""
    return ScoredPool(pd.DataFrame({"mean_entropy": np.arange(len(cases), dtype=float)}, index=list(cases)))
