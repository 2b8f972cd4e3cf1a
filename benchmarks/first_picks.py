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

from nnunet_active.scoring.class_mean import ClassMeanRecorder
from nnunet_active.scoring.density import case_signature, default_radius, neighbour_density, pairwise_distances
from nnunet_active.scoring.embedding import EmbeddingRecorder
from nnunet_active.scoring.statistics import ScoreAccumulator
from nnunet_active.strategies import ScoredPool, get_strategy
from nnunet_active.strategies.foreground_random import predicted_classes
from nnunet_active.strategies.vectors import cluster, distance_to, neighbours, unit_rows

DRAWS, HALVES, UNIFORM, POWER, NEAREST = 200, 100, 0.1, 4.0, 10
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


def only(pool: ScoredPool, cases: set[str]) -> ScoredPool:
    """The pool without all other cases: a table that was stopped is whole for the cases that it has, drawn at random."""
    kept = np.array([case in cases for case in pool.cases])
    return ScoredPool(pool.scores[kept], {name: values[kept] for name, values in pool.arrays.items()})


def by_class(pool: ScoredPool) -> np.ndarray:
    """Embeddings pooled over the predicted foreground, classes side by side, of length 1: (n, (C - 1) d).

    A class that is not predicted in a case has the mean of the cases that show it.
    """
    mean, shown = pool.arrays["class_mean"][:, 1:].astype(float), predicted_classes(pool)
    usual = (mean * shown[..., None]).sum(0) / np.maximum(shown.sum(0), 1)[:, None]
    return unit_rows(np.where(shown[..., None], mean, usual).reshape(len(pool), -1))


def typicality(z: np.ndarray, nearest: int = NEAREST) -> np.ndarray:
    """1 / mean distance to the min(``nearest``, n / 2) nearest other rows; equal for all where there is no other."""
    k = min(nearest, len(z) // 2)
    return 1 / np.maximum(neighbours(z, k)[0].mean(axis=1), 1e-9) if k else np.ones(len(z))


def plausible(pool: ScoredPool) -> np.ndarray:
    """Every class that 80 % of the pool show is predicted, and the volume is between the pool's 5th and 95th percentile."""
    shown, volume = predicted_classes(pool), pool.column("foreground_voxels")
    usual = shown[:, shown.mean(axis=0) >= 0.8].all(axis=1)
    low, high = np.percentile(volume, [5, 95])
    return usual & (volume > 0) & (low <= volume) & (volume <= high)


def strata(
    pool: ScoredPool,
    patients: np.ndarray,
    labels: int = 1,
    power: float = POWER,
    z: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Probability of every case, (n,), for each of the first ``labels`` picks; ``z`` (n, d): other embeddings than :func:`by_class`.

    One scan per patient, its medoid (ties: the one nearer to the pool's centre); k-means into as many clusters as labels; in each a
    draw by typicality to the ``power`` among the plausible cases, with 10 % uniform.
    """
    z = by_class(pool) if z is None else z
    to_centre = distance_to(z, z.mean(axis=0))
    candidates = []
    for patient in np.unique(patients):
        own = np.flatnonzero(patients == patient)
        apart = np.array([distance_to(z[own], z[i]).sum() for i in own]).round(9)
        candidates.append(own[np.lexsort((to_centre[own], apart))[0]])
    kept = np.array(candidates)
    label = cluster(z[kept], labels, np.random.default_rng(0), restarts=20)[0]
    good, picks = plausible(pool), []
    for which in np.argsort(-np.bincount(label), kind="stable"):
        members = kept[label == which]
        weight = typicality(z[members])
        weight = (weight / weight.max()) ** power * good[members]
        chance = np.zeros(len(pool))
        chance[members] = 1 / len(members)
        if weight.any():
            chance[members] = (1 - UNIFORM) * weight / weight.sum() + UNIFORM / len(members)
        picks.append(chance)
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


def properties(pool: ScoredPool) -> pd.DataFrame:
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
        }
    )


def patients_of(pool: ScoredPool) -> np.ndarray:
    """The patient of every case."""
    return np.array([lab.patient_of(case) for case in pool.cases])
