"""``nnunet_active select``, ``next``, ``status`` and ``report`` on a pool of 10,000 cases: time and peak memory of each command.

    python benchmarks/select_ten_thousand.py [--cases 10000] [--csv results.csv]

What grows with the number of cases is measured, not the network. All cases are links to one scan of the MSD hippocampus set (CC BY-SA
4.0). Their scores (320-dimensional embeddings, 25 groups), class means and image signatures are synthetic and in the cache from the
start, as after a scoring that was done before. One process with one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from measuring import run_measured
from select_large_pool import POOL, SOURCE
from workspace import test_data

CONFIGURATION, PLANS, WIDTH, GROUPS, BINS = "3d_fullres", "nnUNetActivePlans", 320, 25, 2048
STRATEGIES = ("random", "mmacts", "assft", "coreset", "typiclust")


def names(cases: int) -> list[str]:
    return [f"case_{i:06d}" for i in range(cases)]


def make_raw(raw: Path, cases: int) -> None:
    (raw / "imagesTr").mkdir(parents=True, exist_ok=True)
    (raw / "labelsTr").mkdir(exist_ok=True)
    origin = test_data() / "nnUNet_raw" / POOL
    shutil.copy(origin / "dataset.json", raw)
    first = raw / "imagesTr" / "case_000000_0000.nii.gz"
    if not first.exists():
        shutil.copy(min((origin / "imagesTr").glob("*_0000.nii.gz")), first)
    for name in names(cases)[1:]:
        os.link(first, raw / "imagesTr" / f"{name}_0000.nii.gz")


def make_preprocessed(pool: Path, cases: int) -> None:
    """Copies of the first case, as stock nnU-Net would have left them: without a record of ours."""
    properties = pickle.loads((pool / "case_000000.pkl").read_bytes())
    properties.pop("nnunet_active", None)
    (pool / "case_000000.pkl").write_bytes(pickle.dumps(properties))
    for name in names(cases)[1:]:
        for ending in (".pkl", ".b2nd"):
            os.link(pool / f"case_000000{ending}", pool / f"{name}{ending}")


def make_scores(model: Path, cases: int) -> None:
    """Fill the cache of the model's scores, and the file of signatures."""
    import torch

    from nnunet_active.nnunet.nnunet_paths import preprocessed_folder
    from nnunet_active.query.score_cache import ScoreCache
    from nnunet_active.rounds.asking_model import find_models, make_window
    from nnunet_active.scoring.statistics import SCALARS
    from nnunet_active.workspace import Workspace

    workspace = Workspace(POOL, "0", CONFIGURATION, PLANS)
    digest = make_window(find_models(workspace, model), workspace, torch.device("cpu")).digest
    cache = ScoreCache.of(preprocessed_folder(POOL), PLANS, CONFIGURATION)
    rng = np.random.default_rng(0)
    centres, state = rng.normal(size=(GROUPS, WIDTH)), workspace.store.image_state("case_000000")
    classes = len(workspace.class_names)
    for name in names(cases):
        embedding = (centres[rng.integers(GROUPS)] + rng.normal(size=WIDTH)).astype(np.float32)
        volume = rng.integers(1, 5000, size=classes)
        arrays = {"embedding": embedding, "class_volume": volume, "class_mean": np.stack([embedding] * classes)}
        cache.add(digest, name, state, dict(zip(SCALARS, rng.random(len(SCALARS)), strict=True)), arrays)
    u = (1 - np.cos(np.pi * (np.arange(BINS) + 0.5) / BINS)) / 2
    logit = np.log(u / (1 - u))
    signatures = rng.uniform(0.5, 2, (cases, 1)) * logit + rng.uniform(-0.1, 0.1, (cases, 1)) * (
        logit**2 - np.mean(logit**2)
    )
    np.savez(
        preprocessed_folder(POOL) / "active" / f"density_{PLANS}_{CONFIGURATION}.npz",
        digests=np.array(names(cases)),
        signatures=signatures[:, None],
        cases=np.array(names(cases)),
        states=np.array([state] * cases, dtype=np.int64),
        case_digests=np.array(names(cases)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--picks", type=int, default=20)
    parser.add_argument("--strategies", nargs="+", default=STRATEGIES)
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()
    model = test_data() / "models" / SOURCE / f"nnUNetTrainer__nnUNetPlans__{CONFIGURATION}"
    rows = []
    with tempfile.TemporaryDirectory(prefix="select_ten_thousand_") as name:
        root = Path(name)
        for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            (root / variable).mkdir()
            os.environ[variable] = str(root / variable)
        make_raw(root / "nnUNet_raw" / POOL, 1)
        ours = [sys.executable, "-m", "nnunet_active"]
        select = [*ours, "select", "-d", "4", "-c", CONFIGURATION, "-m", str(model), "-np", "1", "-device", "cpu"]
        run_measured([*select, "-n", "1", "--strategy", "random", "--dry-run"])
        preprocessed = root / "nnUNet_preprocessed" / POOL
        make_raw(root / "nnUNet_raw" / POOL, args.cases)
        make_preprocessed(next(preprocessed.glob("*_pool")), args.cases)
        make_scores(model, args.cases)
        asking = [*select, "-n", str(args.picks), "--strategy"]
        commands = {f"select, {one}": [*asking, one, "--dry-run"] for one in args.strategies}
        commands["select, mmacts, round and hand-off"] = [*asking, "mmacts"]
        for one in ("next", "status", "report"):
            commands[one] = [*ours, one, "-d", "4"]
        for command, words in commands.items():
            measured = run_measured(words)
            row = {"cases": args.cases, "picks": args.picks, "command": command, "wall_s": measured.wall}
            row |= {"cpu_s": measured.cpu, "peak_mib": measured.peak_mib, "lines": len(measured.output.splitlines())}
            rows.append(row)
            print(json.dumps(row), flush=True)
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format="%.1f"))
    if args.csv:
        args.csv.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(args.csv, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
