"""Does a temperature that is fitted on three or five labelled cases make uncertainty maps right on the other ones?

    python benchmarks/map_calibration.py cardiac glioma -c 2d --csv benchmarks/results/map_calibration.csv

The source networks and case sets of ``asd_against_entropy.py`` (at most 20 cases each), 40,000 random voxels of every case. Three or
five cases drawn at random fit the temperature (``scoring.temperature``, as ``forecast`` does). The expected calibration error (ECE, 15
bins of the highest probability) and the mean of -ln p of the truth are those of the other cases: ``before``; ``plain``, l / T with T of
all voxels; ``after``, as the hand-off does it. Regions: ``all`` voxels; ``band``: at most 5 mm from the predicted object, or in doubt;
``near``: where the truth is foreground or the network is less than 99 % sure of background.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from asd_against_entropy import in_one_process, parser_of_pairs, places_of, prepare_pair, truth_of
from scipy.ndimage import distance_transform_edt
from scipy.optimize import minimize_scalar
from torch.nn.functional import cross_entropy

from nnunet_active.scoring.temperature import BOUNDS, doubtful, fit_temperature, tempered

CASES, VOXELS, BINS, DRAWS, BAND_MM = 20, 40_000, 15, 8, 5.0
REGIONS = ("all", "near", "band")
Sample = tuple[torch.Tensor, torch.Tensor]
Change = Callable[[torch.Tensor], torch.Tensor]
"""What becomes of logits."""


def samples_of(pair: str, configuration: str, raw: Path, work: Path) -> dict[str, dict[str, Sample]]:
    """By region and case: logits and truth of the drawn voxels."""
    kept = work / f"temp_{pair}.npz"
    if not kept.is_file():
        store, window = prepare_pair(pair, configuration, raw, work)
        rng, found = np.random.default_rng(0), {}
        for case in store.labelled_identifiers()[:CASES]:
            logits = window.logits(store.load_image(case)).float()
            truth, doubt = truth_of(store, case), doubtful(logits).numpy()
            background, predicted = logits.softmax(0)[0].numpy(), logits.argmax(0).numpy() > 0
            away = distance_transform_edt(~predicted, store.spacing(case)) if predicted.any() else np.inf
            logits, values = logits.flatten(1).numpy(), truth.astype(np.float32).flatten()
            places = {"all": np.ones(doubt.shape, dtype=bool), "near": (truth > 0) | (background < 0.99)}
            places |= {"band": (away <= BAND_MM) | doubt, "doubt": doubt}
            for region, chosen in places.items():
                where = np.flatnonzero(chosen)
                drawn = rng.choice(where, min(VOXELS, len(where)), replace=False)
                found[f"{case}|{region}"] = np.concatenate([logits[:, drawn], values[None, drawn]]).astype(np.float16)
        np.savez(kept, **found)
    samples: dict[str, dict[str, Sample]] = {region: {} for region in (*REGIONS, "doubt")}
    with np.load(kept) as content:
        for name in content.files:
            case, _, region = name.rpartition("|")
            drawn = torch.from_numpy(content[name]).float()
            samples[region][case] = drawn[:-1], drawn[-1].long()
    return samples


def calibration_error(samples: list[Sample], change: Change) -> float:
    """ECE of all voxels together."""
    sure, right = [], []
    for logits, truth in samples:
        highest, label = change(logits).softmax(0).max(0)
        sure.append(highest.numpy())
        right.append((label == truth).numpy())
    p, hit = np.concatenate(sure), np.concatenate(right)
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    return sum((bins == b).mean() * abs(p[bins == b].mean() - hit[bins == b].mean()) for b in np.unique(bins))


def surprise(samples: list[Sample], change: Change) -> float:
    """Mean of -ln p of the truth; every case counts alike."""
    return float(np.mean([cross_entropy(change(logits).T, truth) for logits, truth in samples if len(truth)]))


def plain_temperature(samples: list[Sample]) -> float:
    """The T of l / T that fits all of these voxels best."""
    bounds = tuple(map(math.log, BOUNDS))
    found = minimize_scalar(
        lambda log: surprise(samples, lambda logits: logits / math.exp(log)), bounds=bounds, method="bounded"
    )
    return math.exp(found.x)


def main() -> None:
    args = parser_of_pairs(__doc__).parse_args()
    in_one_process()
    raw, work = places_of(args, "calibration")
    rows = []
    for pair in args.pairs:
        samples, rng = samples_of(pair, args.configuration, raw, work), np.random.default_rng(0)
        cases = sorted(samples["all"])
        for draw in range(DRAWS):
            for labels in (3, 5):
                fitted = [str(case) for case in rng.choice(cases, labels, replace=False)]
                temperature = fit_temperature([samples["doubt"][case] for case in fitted])
                plain = plain_temperature([samples["all"][case] for case in fitted])
                ways: dict[str, Change] = {
                    "before": lambda logits: logits,
                    "plain": lambda logits, t=plain: logits / t,
                    "after": lambda logits, t=temperature: tempered(logits, t),
                }
                for region in REGIONS:
                    rest = [samples[region][case] for case in cases if case not in fitted]
                    at = {"pair": pair, "configuration": args.configuration, "labels": labels, "draw": draw}
                    at |= {"region": region, "temperature": temperature, "plain": plain}
                    at |= {f"ece_{way}": calibration_error(rest, change) for way, change in ways.items()}
                    rows.append(at | {f"surprise_{way}": surprise(rest, change) for way, change in ways.items()})
    table = pd.DataFrame(rows)
    print(table.groupby(["pair", "labels", "region"]).mean(numeric_only=True).drop(columns="draw").round(4).to_string())
    if args.csv:
        table.round(4).to_csv(args.csv, index=False)


if __name__ == "__main__":
    main()
