"""Does a temperature that is fitted on three or five labelled cases make uncertainty maps right on the other ones?

    python benchmarks/map_calibration.py cardiac glioma -c 2d --csv benchmarks/results/map_calibration.csv

The source networks and case sets of ``asd_against_entropy.py`` (at most 20 cases each), 40,000 random voxels of every case. Three or
five cases drawn at random fit the temperature (``scoring.temperature``, as ``forecast`` does). The expected calibration error (ECE, 15
bins of the highest probability) and the mean of -ln p of the truth are those of the other cases, before and after. ``all``: all voxels;
``near``: where the truth is foreground or the network is less than 99 % sure of background, again 40,000 of every case.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from asd_against_entropy import PAIRS, prepare_pair, truth_of
from workspace import test_data

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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", choices=PAIRS)
    parser.add_argument("-c", dest="configuration", default="2d")
    parser.add_argument("--raw", type=Path, help="folder with the target data sets (default: those of the test data)")
    parser.add_argument("--work", type=Path, help="folder to work in (default: a temporary one)")
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()
    for name, value in (("nnUNet_compile", "f"), ("nnUNet_def_n_proc", "1"), ("OMP_NUM_THREADS", "1")):
        os.environ.setdefault(name, value)
    work = args.work or Path(tempfile.mkdtemp(prefix="calibration_"))
    work.mkdir(parents=True, exist_ok=True)
    rows = []
    for pair in args.pairs:
        samples, rng = (
            samples_of(pair, args.configuration, args.raw or test_data() / "nnUNet_raw", work),
            np.random.default_rng(0),
        )
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
