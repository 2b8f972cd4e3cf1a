"""A run is done again from its row alone."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from tiny_benchmark import tiny_benchmark

from nnunet_active.benchmark.configuration import Arm
from nnunet_active.benchmark.execution import execute
from nnunet_active.benchmark.reproduction import run_again
from nnunet_active.benchmark.results import ROWS, write_tables
from nnunet_active.util.atomic import write_text
from nnunet_active.util.errors import ActiveError, MissingInput


def test_the_same_requests_dice_and_weights_come_out_and_another_target_is_refused(nnunet_folders: Path):
    benchmark = tiny_benchmark(nnunet_folders, arms=(Arm("entropy"),))
    jobs = benchmark.open_jobs()
    write_tables(benchmark.root, [execute(job) for job in jobs])
    file, target = benchmark.root / ROWS, jobs[0].target
    run = next(job.spec.identifier for job in jobs if job.spec.arm == "entropy")
    kept = sorted(benchmark.root.rglob("*"))
    table = run_again(file, run, target)
    assert table["labels"].tolist() == [1, 2]
    assert table["same request"].all() and table["same weights"].all()
    assert table["dice then"].tolist() == pytest.approx(table["dice now"].tolist(), abs=1e-12)
    assert sorted(benchmark.root.rglob("*")) == kept
    with pytest.raises(MissingInput, match="has no run nobody"):
        run_again(file, "nobody", target)
    rows = pd.read_csv(file)
    rows["digests"] = rows["digests"].str.replace('"plans": "', '"plans": "other')
    write_text(file, rows.to_csv(index=False))
    with pytest.raises(ActiveError, match="not the one of that run: plans differ"):
        run_again(file, run, target)
