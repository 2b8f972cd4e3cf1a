"""What the density of mmActS costs: the literal recipe against ``nnunet_active.scoring.density``, on the same cores.

    python benchmarks/density.py          # samples the literal recipe and extrapolates; a few minutes
    python benchmarks/density.py --full   # runs all of it

Volumes are synthetic: smooth textured ellipsoids with a sharp border on an empty background, z-scored, already 128³, with about as
many principal components (3 to 9) as brain, heart and hippocampus scans have. The fewer there are, the cheaper the literal
recipe's pairs.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from itertools import combinations

import numpy as np
import sklearn
from scipy.ndimage import zoom
from scipy.stats import wasserstein_distance
from sklearn.decomposition import PCA

from nnunet_active.scoring.density import (
    case_signature,
    default_radius,
    neighbour_counts,
    neighbour_density,
    neighbour_histogram,
    pairwise_distances,
)

SIZE = 128


def image_like_volume(rng: np.random.Generator) -> np.ndarray:
    axes = [
        (np.linspace(-1, 1, SIZE, dtype=np.float32) - rng.uniform(-0.15, 0.15)) / rng.uniform(0.6, 0.9)
        for _ in range(3)
    ]
    inside = (axes[0] ** 2)[:, None, None] + (axes[1] ** 2)[:, None] + axes[2] ** 2 < 1
    texture = np.zeros((SIZE, SIZE, SIZE), np.float32)
    for coarse in (4, 8, 16, 32):  # structures from a quarter to a thirtieth of the field of view
        layer = zoom(rng.standard_normal((coarse,) * 3).astype(np.float32), SIZE / coarse, order=1)
        texture += layer / layer.std() * rng.uniform(0.3, 0.6)
    volume = inside * (1 + texture)
    return (volume - volume.mean()) / volume.std()


def literal_scores(volume: np.ndarray) -> np.ndarray:
    return PCA(n_components=0.75).fit_transform(volume.reshape(SIZE * SIZE, SIZE)).ravel()


def literal_distances(scores: dict[int, list[np.ndarray]], pairs: list[tuple[int, int]]) -> list[float]:
    return [np.mean([wasserstein_distance(a, b) for a, b in zip(scores[i], scores[j], strict=True)]) for i, j in pairs]


def seconds(function: Callable, *arguments) -> tuple[np.ndarray, object]:
    """Return (wall-clock time, processor time over all threads) in seconds, and the result."""
    start = np.array([time.perf_counter(), time.process_time()])
    result = function(*arguments)
    return np.array([time.perf_counter(), time.process_time()]) - start, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=80)
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sampled_cases", type=int, default=12, help="cases on which the literal recipe is timed")
    parser.add_argument("--sampled_pairs", type=int, default=40, help="pairs of them, each with all channels")
    parser.add_argument("--full", action="store_true", help="run the literal recipe on all cases and pairs, once")
    args = parser.parse_args()
    n, channels = args.cases, args.channels
    rng = np.random.default_rng(0)
    images = [np.stack([image_like_volume(rng) for _ in range(channels)]) for _ in range(n)]

    def ours() -> np.ndarray:
        return pairwise_distances(np.stack([case_signature(image) for image in images]))

    case_signature(images[0])  # the first call pays for loading BLAS
    all_pairs = list(combinations(range(n), 2))
    cases, pairs = list(range(n)), all_pairs
    if not args.full:
        cases = sorted(rng.choice(n, min(n, args.sampled_cases), replace=False).tolist())
        possible = list(combinations(cases, 2))
        pairs = [possible[k] for k in rng.choice(len(possible), min(len(possible), args.sampled_pairs), replace=False)]
    repeats = 1 if args.full else args.repeats

    # The machine may be shared: literal and ours take turns, the ratio is taken per turn, and the medians are reported.
    rows, deviations = [], np.zeros(0)
    for _ in range(repeats):
        pca_time, scores = seconds(lambda: {c: [literal_scores(volume) for volume in images[c]] for c in cases})
        pair_time, exact = seconds(literal_distances, scores, pairs)
        our_time, distances = seconds(ours)
        components = [len(s) // SIZE**2 for c in cases for s in scores[c]]
        pca_time, pair_time = pca_time * n / len(cases), pair_time * len(all_pairs) / len(pairs)
        rows.append((pca_time, pair_time, pca_time + pair_time, our_time, (pca_time + pair_time) / our_time))
        deviations = np.abs([distances[pair] / w - 1 for pair, w in zip(pairs, exact, strict=True)])
    pca_time, pair_time, literal_time, our_time, ratio = np.median(rows, axis=0)
    ratios = [row[4][0] for row in rows]
    rho_time, _ = seconds(lambda: neighbour_density(distances, default_radius(distances)))

    many = np.random.default_rng(1).standard_normal((1000, channels, case_signature(images[0]).shape[1]))
    many_time = np.median([seconds(pairwise_distances, many)[0][0] for _ in range(args.repeats)])

    how = "run in full, once" if args.full else f"extrapolated from {len(cases)} cases and {len(pairs)} pairs"
    print(
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, OMP_NUM_THREADS={os.getenv('OMP_NUM_THREADS')}"
    )
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, scikit-learn {sklearn.__version__}")
    print(
        f"{n} cases x {channels} channels at {SIZE}³, {len(all_pairs)} pairs; PCA keeps {min(components)}-{max(components)} components"
    )
    print(f"\n| {'step':<58} | {'median of ' + str(repeats):>14} |\n|{'-' * 60}|{'-' * 16}|")
    table = [
        ("literal recipe: PCA per volume*", f"{pca_time[0]:.1f} s"),
        ("literal recipe: Wasserstein per pair*", f"{pair_time[0]:.1f} s"),
        ("literal recipe, total", f"{literal_time[0]:.1f} s"),
        ("ours: signatures and distances, all of them", f"{our_time[0]:.2f} s"),
        ("ours: radius and density", f"{rho_time[0] * 1e3:.2f} ms"),
        ("ratio (>= 40)", f"{ratio[0]:.0f} x"),
        ("the same in processor time", f"{ratio[1]:.0f} x"),
        (f"ratio, smallest and largest of {repeats}", f"{min(ratios):.0f}-{max(ratios):.0f} x"),
        (f"largest relative deviation over {len(pairs)} pairs (<= 0.5 %)", f"{100 * deviations.max():.4f} %"),
        (f"distances alone, 1000 cases x {channels} channels", f"{many_time:.2f} s"),
    ]
    for step, value in table:
        print(f"| {step:<58} | {value:>14} |")
    print(f"* {how}")
    print(
        "\nneighbours within the radius -> cases:",
        neighbour_histogram(neighbour_counts(distances, default_radius(distances))),
    )


if __name__ == "__main__":
    main()
