"""Networks of a tiny benchmark as the scripts on gate and guard measure them, against what the benchmark itself found."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from tiny_benchmark import job_of, tiny_benchmark

from nnunet_active.benchmark.configuration import Arm, Recipe
from nnunet_active.benchmark.execution import execute
from nnunet_active.campaign.fine_tuning import recipe

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import gate
import guard


@pytest.mark.parametrize("mixed", [False, True], ids=["guarded", "with the pool"])
def test_rows_of_gate_and_guard_are_of_the_networks_that_the_benchmark_trained(nnunet_folders: Path, mixed: bool):
    arm, recipes = Arm("foreground_random", one_off=True), () if mixed else (Recipe("guarded", recipe("guarded")),)
    benchmark = tiny_benchmark(nnunet_folders, arms=(arm,), recipes=recipes, lr=0.1, iterations=4, epochs=2)
    job = job_of(benchmark, arm.name)
    last = execute(job)["rounds"][-1]
    shutil.copytree(job.target.preprocessed, job.root / "target" / "nnUNet_preprocessed")

    rows = gate.measure("tiny", job.root, job.target.raw)
    test, judged = rows[rows["kind"] == "test"], rows[rows["kind"] != "test"]
    assert sorted(test["alpha"].unique()) == list(gate.ALPHAS)
    assert all(set(part["case"]) == set(job.spec.test) for _, part in test.groupby("alpha"))
    assert set(judged["case"]) == (set() if mixed else set(last["labelled"]))
    assert set(judged["kind"]) <= {"cross_fit"}
    assert (rows["labels"] == last["labels"]).all() and (rows["scans"] == len(last["labelled"])).all()
    (network,) = gate.judge(rows, mixed).to_dict("records")
    assert network["alpha"] == last["interpolation"]
    of_benchmark = pd.DataFrame(last["cases"]).groupby("case")["dice"].mean()
    assert network["guarded"] == pytest.approx(of_benchmark.mean(), abs=1e-6)

    rows = guard.measure("tiny", job.root, job.target.raw)
    assert sorted(rows["alpha"].unique()) == [0.0, guard.FLOOR, *guard.DEPLOYED]
    assert not rows.duplicated(["alpha", "case", "class"]).any()
    assert rows["sdc"].between(0, 1).all() and (rows["volume"] >= 0).all()
    volumes = rows.pivot_table(index=["case", "class"], columns="alpha", values="volume")
    assert not volumes[1.0].equals(volumes[0.0])  # the weights that were trained, not those that the gate put in
