"""Is it worth training on the unlabelled pool, or on the first layers alone? Many small trainings in the laboratory (small_lab.py).

    python benchmarks/mixing.py CACHE --pairs glioma hearts diseased --settings s30 s30-mix w3 w3-mix --csv results/mixing.csv

A setting is what is labelled, and how it is trained on: ``w3`` three whole scans, ``s30`` 30 slices spread over as many patients as
there are (at random within equal strata of the source's prediction); then, if said,

* ``-mix``: weak view of an unlabelled slice -> pseudo-label, strong view with boxes mixed both ways between it and the labelled one
  (after UniMatch, arXiv 2208.09910, and BCP, 2305.00673). The teacher is half the source, half the running mean of the weights; a voxel
  counts above the smaller of 0.95 and the 60 % quantile of its class's confidence on the pool; the weight of both losses rises to 0.5.
* ``-weak``: the same without boxes, the strong view alone.
* ``-first``: the first two stages of the encoder alone are trained (arXiv 2008.07357).
* ``@40``: so many steps (120 where nothing is said).

Half of the patients are the pool, up to 16 scans of the others are tested on; scans to label are drawn at random, one of a patient,
among those with predicted foreground. Rows: mean Dice over test cases and classes by the weights w0 + alpha (w - w0);
what has its rows is not trained again.
"""

from __future__ import annotations

import argparse
import time
from itertools import product
from pathlib import Path

import numpy as np
import small_lab as lab
import torch
from appended_rows import AppendedRows
from small_lab import Samples, Scan, Weights
from torch import Tensor, nn

ALPHAS = (0.0, 0.5, 0.75, 1.0)
STEPS, TESTED, WEIGHT, DECAY = 120, 16, 0.5, 0.99
FIRST = ("encoder.stages.0", "encoder.stages.1")


def boxes(images: Tensor) -> Tensor:
    """One box per image, a quarter to half of its area; (N, H, W) bool."""
    n, _, height, width = images.shape
    inside = torch.zeros(n, height, width, dtype=torch.bool)
    for i, (share, top, left) in enumerate(torch.rand(n, 3).tolist()):
        side = (0.25 + 0.25 * share) ** 0.5
        h, w = int(height * side), int(width * side)
        y, x = int(top * (height - h)), int(left * (width - w))
        inside[i, y : y + h, x : x + w] = True
    return inside


class Mixing:
    """The pool's part of the loss; see the top of this file."""

    def __init__(self, pool: list[Scan], weights: Weights, classes: int, mixed: bool = True) -> None:
        self.mixed = mixed
        self.source, self.mean = (lab.build(len(pool[0].image), classes) for _ in range(2))
        for network in (self.source, self.mean):
            network.load_state_dict(weights)
            network.eval()
        self.samples, self.cuts = Samples([(scan, None) for scan in pool]), self._cuts(pool[:20], classes)

    def _cuts(self, pool: list[Scan], classes: int) -> Tensor:
        values: list[list[Tensor]] = [[] for _ in range(classes)]
        for scan in pool:
            confidence, label = lab.probabilities(self.source, scan.image).max(1)
            for c in range(classes):
                values[c].append(confidence[label == c][:20000])
        joined = [torch.cat(one).sort().values for one in values]
        sixty = [float(one[int(0.6 * (len(one) - 1))]) if len(one) else 1.0 for one in joined]
        return torch.tensor([min(0.95, one) for one in sixty])

    def __call__(self, network: nn.Module, x: Tensor, y: Tensor, group: int, over: float) -> Tensor:
        with torch.no_grad():
            for mine, theirs in zip(self.mean.parameters(), network.parameters(), strict=True):
                mine.lerp_(theirs, 1 - DECAY)
            other, _ = lab.moved(self.samples.draw(len(x))[0], None)
            height, width = (min(a, b) for a, b in zip(x.shape[2:], other.shape[2:], strict=True))
            x, y, other = x[..., :height, :width], y[..., :height, :width], other[..., :height, :width]
            confidence, guess = ((self.source(other).softmax(1) + self.mean(other).softmax(1)) / 2).max(1)
            sure, inside = confidence >= self.cuts[guess], boxes(other)
        strong = lab.recoloured(other, 3.0)
        rising = min(1.0, over / 0.8) * WEIGHT
        if not self.mixed:
            return rising * 2 * lab.loss_of(network(strong), guess, sure)
        total = torch.zeros(())
        for part in (inside, ~inside):
            mixed = torch.where(part[:, None], x, strong)
            total = total + lab.loss_of(network(mixed), torch.where(part, y, guess), part | sure)
        return rising * total


def spread_slices(scan: Scan, predicted: Tensor, n: int, rng: np.random.Generator) -> list[int]:
    """At most ``n`` slices, at random within equal strata of the slices with predicted foreground and one more on both sides."""
    inside = (predicted > 0).flatten(1).any(1).nonzero().flatten().tolist() or [0, len(scan.label) - 1]
    extent = np.arange(max(0, inside[0] - 1), min(len(scan.label) - 1, inside[-1] + 1) + 1)
    return sorted(int(rng.choice(stratum)) for stratum in np.array_split(extent, n) if len(stratum))


def chosen(
    setting: str, order: list[Scan], predicted: dict[str, Tensor], seed: int
) -> list[tuple[Scan, list[int] | None]]:
    """What is labelled."""
    number, rng = int(setting[1:]), np.random.default_rng(seed + 1)
    if setting[0] == "w":
        return [(scan, None) for scan in order[:number]]
    per_scan = -(-number // len(order))
    return [
        (scan, spread_slices(scan, predicted[scan.name], per_scan, rng)) for scan in order[: -(-number // per_scan)]
    ]


class Pair:
    """Scans, source network and its predictions."""

    def __init__(self, name: str, raw: Path, cache: Path) -> None:
        source, self.target = lab.pair_of(name, raw, cache)
        self.classes = int(max(scan.label.max() for scan in source + self.target)) + 1
        self.network, self.weights = lab.source_weights(name, source, self.classes, cache)
        self.network.load_state_dict(self.weights)
        self.predicted = {scan.name: lab.probabilities(self.network, scan.image).argmax(1) for scan in self.target}

    def draw(self, setting: str, seed: int) -> dict[float, float]:
        """Mean Dice of one training, by alpha."""
        what, _, steps = setting.partition("@")
        what, _, how = what.partition("-")
        patients = sorted({scan.patient for scan in self.target})
        rng = np.random.default_rng(seed)
        rng.shuffle(patients)
        tested = set(patients[: len(patients) // 2])
        pool = [scan for scan in self.target if scan.patient not in tested]
        test = [scan for scan in self.target if scan.patient in tested][:TESTED]
        order: dict[str, Scan] = {}
        for i in rng.permutation(len(pool)):
            if (self.predicted[pool[i].name] > 0).any():
                order.setdefault(pool[i].patient, pool[i])
        torch.manual_seed(seed)
        for name, tensor in self.network.named_parameters():
            tensor.requires_grad_(how != "first" or name.startswith(FIRST))
        more = Mixing(pool, self.weights, self.classes, how == "mix") if how in ("mix", "weak") else None
        labelled = Samples(chosen(what, list(order.values()), self.predicted, seed))
        trained = lab.train(self.network, self.weights, labelled, int(steps or STEPS), more=more)
        found = {}
        for alpha in ALPHAS:
            self.network.load_state_dict(lab.between(self.weights, trained, alpha))
            maps = [lab.probabilities(self.network, scan.image).argmax(1) for scan in test]
            pairs = zip(maps, test, strict=True)
            found[alpha] = float(np.nanmean([lab.dice_per_class(a, scan.label, self.classes) for a, scan in pairs]))
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--pairs", nargs="+", default=["glioma", "hearts", "diseased"], choices=lab.PAIRS)
    parser.add_argument("--settings", nargs="+", default=["s30", "s30-mix", "w3", "w3-mix"])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--csv", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    pairs: dict[str, Pair] = {}
    there = AppendedRows(args.csv, ["pair", "seed", "setting", "alpha", "dice"], 3, 4)
    for seed, name, setting in product(range(args.seeds), args.pairs, args.settings):
        if there.has(name, seed, setting, rows=len(ALPHAS)):
            continue
        if name not in pairs:
            pairs[name] = Pair(name, lab.raw_folder(), args.cache)
        began = time.perf_counter()
        found = pairs[name].draw(setting, seed)
        there.add([name, seed, setting, alpha, f"{dice:.4f}"] for alpha, dice in found.items())
        print(f"{name} seed {seed} {setting}: {time.perf_counter() - began:.0f} s {found}", flush=True)


if __name__ == "__main__":
    main()
