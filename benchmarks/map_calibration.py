"""Does a temperature that is fitted on three or five labelled cases make uncertainty maps right on the other ones?

    python benchmarks/map_calibration.py cardiac glioma -c 2d --csv benchmarks/results/map_calibration.csv

The source networks and case sets of ``asd_against_entropy.py`` (at most 20 cases each), 40,000 random voxels of every case. Three or
five cases drawn at random fit the temperature (``scoring.temperature``, as ``forecast`` does). The expected calibration error (ECE, 15
bins of the highest probability) and the mean of -ln p of the truth are those of the other cases, before and after. ``all``: all voxels;
``near``: where the truth is foreground or the network is less than 99 % sure of background, again 40,000 of every case.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from asd_against_entropy import in_one_process, parser_of_pairs, places_of, prepare_pair, truth_of

from nnunet_active.scoring.temperature import fit_temperature, mean_surprise

CASES, VOXELS, BINS, DRAWS = 20, 40_000, 15, 8
Sample = tuple[torch.Tensor, torch.Tensor]


def samples_of(pair: str, configuration: str, raw: Path, work: Path) -> dict[str, dict[str, Sample]]:
    """By region and case: logits and truth of the drawn voxels."""
    kept = work / f"temp_{pair}.npz"
    if not kept.is_file():
        store, window = prepare_pair(pair, configuration, raw, work)
        rng, found = np.random.default_rng(0), {}
        for case in store.labelled_identifiers()[:CASES]:
            logits = window.logits(store.load_image(case)).float().flatten(1).numpy()
            truth = truth_of(store, case).astype(np.float32).flatten()
            near = (truth > 0) | (torch.from_numpy(logits).softmax(0)[0].numpy() < 0.99)
            for region, places in (("all", np.arange(len(truth))), ("near", np.flatnonzero(near))):
                drawn = rng.choice(places, min(VOXELS, len(places)), replace=False)
                found[f"{case}|{region}"] = np.concatenate([logits[:, drawn], truth[None, drawn]]).astype(np.float16)
        np.savez(kept, **found)
    samples: dict[str, dict[str, Sample]] = {"all": {}, "near": {}}
    with np.load(kept) as content:
        for name in content.files:
            case, _, region = name.rpartition("|")
            drawn = torch.from_numpy(content[name]).float()
            samples[region][case] = drawn[:-1], drawn[-1].long()
    return samples


def calibration_error(samples: list[Sample], temperature: float) -> float:
    """ECE of all voxels together."""
    sure, right = [], []
    for logits, truth in samples:
        highest, label = (logits / temperature).softmax(0).max(0)
        sure.append(highest.numpy())
        right.append((label == truth).numpy())
    p, hit = np.concatenate(sure), np.concatenate(right)
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    return sum((bins == b).mean() * abs(p[bins == b].mean() - hit[bins == b].mean()) for b in np.unique(bins))


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
                temperature = fit_temperature([samples["all"][case] for case in fitted])
                for region in ("all", "near"):
                    rest = [samples[region][case] for case in cases if case not in fitted]
                    rows.append(
                        {
                            "pair": pair,
                            "configuration": args.configuration,
                            "labels": labels,
                            "draw": draw,
                            "region": region,
                            "temperature": temperature,
                            "ece_before": calibration_error(rest, 1.0),
                            "ece_after": calibration_error(rest, temperature),
                            "surprise_before": mean_surprise(rest, 1.0),
                            "surprise_after": mean_surprise(rest, temperature),
                        }
                    )
    table = pd.DataFrame(rows)
    print(table.groupby(["pair", "labels", "region"]).mean(numeric_only=True).drop(columns="draw").round(4).to_string())
    if args.csv:
        table.round(4).to_csv(args.csv, index=False)


if __name__ == "__main__":
    main()
