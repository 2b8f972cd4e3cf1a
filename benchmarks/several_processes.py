"""``nnunet_active select`` by one process and by two of torchrun's on the same pool: time until the cases are chosen.

    python benchmarks/several_processes.py [--cases 180] [--processes 2] [--repeats 3] [--csv results.csv]

The cases are preprocessed before. ``N processes`` scores all of them with a cache that is empty, one thread each; ``again`` is the same
command afterwards, which makes no forward pass. Needs as many free cores as processes; the ratio is that of wall-clock times.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path

import pandas as pd
from measuring import run_measured
from select_large_pool import POOL, SOURCE, make_pool
from workspace import test_data


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return str(free.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=180)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()
    model = test_data() / "models" / SOURCE / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    python, many = sys.executable, f"{args.processes} processes"
    rows = []
    with tempfile.TemporaryDirectory(prefix="several_processes_") as name:
        root = Path(name)
        for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            (root / variable).mkdir()
            os.environ[variable] = str(root / variable)
        make_pool(root / "nnUNet_raw" / POOL, args.cases)
        words = ["select", "-d", "4", "-c", "3d_fullres", "-m", str(model), "-n", "5", "--strategy", "assft"]
        words += ["--dry-run", "-np", "1", "-device", "cpu"]
        run_measured([python, "-m", "nnunet_active", *words])
        scores = root / "nnUNet_preprocessed" / POOL / "active" / "scores"
        for repeat in range(args.repeats):
            for which in ("1 process", many, "again"):
                if which != "again":
                    shutil.rmtree(scores)
                launch = [python]
                if which != "1 process":
                    launch += ["-m", "torch.distributed.run", "--nproc-per-node", str(args.processes)]
                    launch += ["--master-port", free_port()]
                measured = run_measured([*launch, "-m", "nnunet_active", *words])
                row = {"repeat": repeat, "cases": args.cases, "command": which, "wall_s": measured.wall}
                rows.append(row | {"cpu_s": measured.cpu, "peak_mib": measured.peak_mib})
                print(json.dumps(rows[-1]), flush=True)
    table = pd.DataFrame(rows)
    median = table.groupby("command", sort=False)[["wall_s", "cpu_s", "peak_mib"]].median()
    print(f"\nmedians of {args.repeats}, and relative to one process:")
    print(median.join((median / median.loc["1 process"]).add_suffix(" ratio")).round(3).to_string())
    if args.csv:
        args.csv.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(args.csv, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
