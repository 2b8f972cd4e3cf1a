"""What can be known of a case before any label, and how probable each case is as the first pick of a strategy.

A strategy's first pick is a probability for each case of the pool: exact where it follows from a formula, else how often the
strategy of the package picks the case in 200 draws. No training is needed to judge it once the worth of every case is known.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import small_lab as lab
import torch
from scipy.spatial.distance import cdist

from nnunet_active.scoring.class_mean import ClassMeanRecorder
from nnunet_active.scoring.density import case_signature, default_radius, neighbour_density, pairwise_distances
from nnunet_active.scoring.embedding import EmbeddingRecorder
from nnunet_active.scoring.statistics import ScoreAccumulator
from nnunet_active.strategies import ScoredPool, get_strategy
from nnunet_active.strategies.foreground_random import predicted_classes
from nnunet_active.strategies.strata import StrataStrategy, by_class, medoid, plausible, typicality
from nnunet_active.strategies.vectors import cluster, distance_to, unit_rows

DRAWS, HALVES = 200, 100
ARRAYS = ("embedding", "class_volume", "class_mean")


@torch.no_grad()
def scored(pool) -> ScoredPool:
    """Every scan of a pool of ``value_of_labels`` as the source network sees it."""
    pool.network.load_state_dict(pool.source)
    pool.network.eval()
    rows, arrays = {}, {name: [] for name in ARRAYS}
    for scan in pool.scans:
        sums = ScoreAccumulator(pool.classes)
        with EmbeddingRecorder(pool.network) as whole, ClassMeanRecorder(pool.network) as by_class:
            for part in scan.image.transpose(0, 1).split(48):
                sums.update(pool.network(part).transpose(0, 1))
        found = sums.result(1.0)
        rows[scan.name] = found.scalars
        volume = found.arrays["class_volume"]
        for name, value in zip(ARRAYS, (whole.embedding(), volume, by_class.class_mean(volume)), strict=True):
            arrays[name].append(value)
    distances = pairwise_distances(np.stack([case_signature(scan.image.numpy(), 48) for scan in pool.scans]))
    table = pd.DataFrame(rows).T.assign(density=neighbour_density(distances, default_radius(distances)))
    return ScoredPool(table, {name: np.stack(values) for name, values in arrays.items()}).sorted()


def save(file: Path, pool: ScoredPool) -> None:
    """Table and arrays in one file."""
    np.savez(
        file, cases=np.array(pool.cases), columns=list(pool.scores), scores=pool.scores.to_numpy(float), **pool.arrays
    )


def load(file: Path) -> ScoredPool:
    """As :func:`save` left it."""
    with np.load(file) as stored:
        table = pd.DataFrame(stored["scores"], index=stored["cases"].tolist(), columns=stored["columns"].tolist())
        return ScoredPool(table, {name: stored[name] for name in ARRAYS})


def both(folder: Path, pool: str) -> tuple[ScoredPool, ScoredPool]:
    """A pool, and the scans that its source network was trained on, as ``value_of_labels.py describe`` left them."""
    return load(folder / f"scored_{pool}.npz"), load(folder / f"scored_{pool}_source.npz")


def only(pool: ScoredPool, cases: set[str]) -> ScoredPool:
    """The pool without all other cases: a table that was stopped is whole for the cases that it has, drawn at random."""
    return pool.only(np.flatnonzero([case in cases for case in pool.cases]))


def strata(
    pool: ScoredPool,
    patients: np.ndarray,
    labels: int = 1,
    power: float = 4.0,
    z: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Probability of every case, (n,), for each of the first ``labels`` picks; ``z`` (n, d): other embeddings than :func:`by_class`.

    The strategy of that name, with every probability told: one scan per patient, as many clusters as labels.
    """
    z = by_class(pool) if z is None else z
    kept = np.array([medoid(z, np.flatnonzero(patients == patient)) for patient in np.unique(patients)])
    label = cluster(z[kept], labels, np.random.default_rng(0), restarts=20)[0]
    strategy, good, picks = StrataStrategy(power=power), plausible(pool), []
    for which in np.argsort(-np.bincount(label), kind="stable"):
        picks.append(strategy.probabilities(z, np.isin(np.arange(len(pool)), kept[label == which]), good))
    return picks


def _one(values: np.ndarray) -> np.ndarray:
    """All on the highest value, shared where several are."""
    best = values == values.max()
    return best / best.sum()


def _often(name: str, pool: ScoredPool, **options) -> np.ndarray:
    """How often a strategy of the package asks for each case first."""
    strategy, count = get_strategy(name, **options), pd.Series(0.0, index=pool.cases)
    for draw in range(DRAWS):
        count[strategy.query(pool, 1, np.random.default_rng(draw)).picks[0]] += 1
    return count.to_numpy() / DRAWS


def of_halves(pool: ScoredPool, patients: np.ndarray) -> dict[str, np.ndarray]:
    """How often each case is the first pick where a random half of the scans is the pool, (n,), by strategy.

    One pick of one pool may be luck; these are 100 pools.
    """
    names = ("mmacts", "assft", "typiclust")
    counts = {f"{name}, half pools": np.zeros(len(pool)) for name in (*names, "largest prediction", "strata")}
    for draw in range(HALVES):
        rng = np.random.default_rng(draw)
        kept = np.sort(rng.permutation(len(pool))[: len(pool) // 2])
        part = only(pool, {pool.cases[i] for i in kept})
        for name in names:
            picked = get_strategy(name).query(part, 1, rng).picks[0]
            counts[f"{name}, half pools"][pool.cases.index(picked)] += 1
        counts["largest prediction, half pools"][kept] += _one(part.column("foreground_voxels"))
        counts["strata, half pools"][kept] += strata(part, patients[kept])[0]
    return {name: count / HALVES for name, count in counts.items()}


def first_picks(pool: ScoredPool, patients: np.ndarray) -> dict[str, np.ndarray]:
    """Probability of each case as the first pick, (n,), by strategy."""
    shown = predicted_classes(pool)
    shown = shown[:, shown.any(axis=0)]
    good = plausible(pool)
    return {
        "random": np.full(len(pool), 1 / len(pool)),
        "foreground_random": (shown / shown.sum(axis=0)).mean(axis=1),
        "largest prediction": _one(pool.column("foreground_voxels")),
        "mmacts": _often("mmacts", pool),
        "assft": _often("assft", pool),
        "typiclust": _often("typiclust", pool),
        "plausible, at random": good / good.sum(),
        "strata": strata(pool, patients)[0],
        "strata, most typical": strata(pool, patients, power=1000.0)[0],
        "strata, whole image": strata(pool, patients, z=unit_rows(pool.embedding()))[0],
        **of_halves(pool, patients),
    }


def from_source(pool: ScoredPool, source: ScoredPool) -> np.ndarray:
    """Distance of every case to the nearest scan that the network was trained on, (n,), in the features of the predicted classes."""
    return cdist(by_class(pool), by_class(source)).min(axis=1)


def properties(pool: ScoredPool, source: ScoredPool) -> pd.DataFrame:
    """What is known of every case without a label."""
    z, whole = by_class(pool), unit_rows(pool.embedding())
    table = pool.scores[["mean_entropy", "foreground_entropy", "soft_dice_confidence", "density"]].rename(
        columns={"mean_entropy": "entropy", "foreground_entropy": "entropy in the foreground"}
    )
    return table.assign(
        **{
            "predicted volume": pool.column("foreground_voxels"),
            "predicted classes": predicted_classes(pool).sum(axis=1),
            "distance of the volume from the median": np.abs(
                np.log1p(pool.column("foreground_voxels")) - np.log1p(np.median(pool.column("foreground_voxels")))
            ),
            "typicality": typicality(z),
            "distance to the centre": distance_to(z, z.mean(axis=0)),
            "typicality, whole image": typicality(whole),
            "distance to the source": from_source(pool, source),
        }
    )


def patients_of(pool: ScoredPool) -> np.ndarray:
    """The patient of every case."""
    return np.array([lab.patient_of(case) for case in pool.cases])
