"""The rows that a benchmark writes, and what is made of the single cases."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_benchmark import tiny_benchmark

from nnunet_active.benchmark.all_runs import run_benchmark
from nnunet_active.benchmark.configuration import Arm, Recipe
from nnunet_active.benchmark.engines import LocalEngine
from nnunet_active.benchmark.execution import execute
from nnunet_active.benchmark.results import METRICS, finished, finished_before, per_class, read_rows, write_tables
from nnunet_active.campaign.fine_tuning import default_recipe


def cases(*rows: tuple[str, str, float | None]) -> pd.DataFrame:
    return pd.DataFrame([{"case": case, "class": name, **dict.fromkeys(METRICS, value)} for case, name, value in rows])


def test_a_class_counts_where_it_is_and_every_class_counts_the_same():
    table = per_class(cases(("a", "core", 1.0), ("b", "core", 0.5), ("a", "rim", 0.25), ("b", "rim", None)))
    assert table.loc["core", "dice"] == 0.75 and table.loc["rim", "dice"] == 0.25
    assert table["cases"].to_dict() == {"core": 2, "rim": 1, "mean": 2}
    assert table.loc["mean", "dice"] == 0.5


def test_a_class_that_no_case_has_leaves_the_mean_to_the_others():
    table = per_class(cases(("a", "core", 0.5), ("a", "rim", None)))
    assert np.isnan(table.loc["rim", "dice"]) and table.loc["mean", "dice"] == 0.5


def test_a_result_from_before_the_distance_to_the_source_was_measured_has_none():
    table = per_class(cases(("a", "core", 0.5)))
    assert table["source_distance"].isna().all() and table.loc["mean", "dice"] == 0.5


def test_rows_hold_all_that_is_needed_to_do_the_run_again(nnunet_folders: Path):
    benchmark = tiny_benchmark(nnunet_folders)
    results = [execute(job) for job in benchmark.open_jobs()]
    rows, cases = (read_rows(file) for file in write_tables(benchmark.root, results))
    ours = rows[rows["arm"] == "entropy"]
    assert ours["labels"].tolist() == [1, 1, 1, 2, 2, 2] and set(ours["class"]) == {"oedema", "core", "mean"}
    assert json.loads(ours["spec"].iloc[0]) == run_of(benchmark, "entropy").to_json()
    assert {"nnunetv2", "torch"} <= set(json.loads(ours["versions"].iloc[0]))
    assert set(json.loads(ours["digests"].iloc[0])) == {"plans", "source", "cases"}
    mean = cases[(cases["arm"] == "entropy") & (cases["labels"] == 2)].groupby("class")["dice"].mean()
    for name, value in mean.items():
        assert ours[(ours["class"] == name) & (ours["labels"] == 2)]["dice"].iloc[0] == pytest.approx(
            value, nan_ok=True
        )
    key = ["case", "class"]
    source, ran = (cases[cases["arm"] == arm].set_index(key) for arm in ("source", "entropy"))
    assert (source["source_distance"] == 0).all() and ran["source_distance"].notna().all()
    gap = (ran["iou"].fillna(1) - source["iou"].fillna(1).reindex(ran.index)).abs()
    assert (gap <= ran["source_distance"] + 1e-12).all()
    last = ran[ran["labels"] == 2]["source_distance"].mean()
    assert ours[(ours["class"] == "mean") & (ours["labels"] == 2)]["source_distance"].iloc[0] == pytest.approx(last)
    times = ours[[f"seconds_{part}" for part in ("trained_here", "query", "evaluation", "overhead")]].iloc[0]
    assert times.sum() == pytest.approx(ours["seconds_wall"].iloc[0], abs=0.01)
    assert np.all(times >= 0)


def test_unfinished_runs_are_left_out_and_no_table_of_pseudo_labels_or_judges_is_written_without_any(
    nnunet_folders: Path,
):
    benchmark = tiny_benchmark(nnunet_folders)
    (job,) = (job for job in benchmark.open_jobs() if job.spec.arm == "source")
    execute(job)
    found = finished(benchmark.root, benchmark.runs)
    assert [result["spec"]["arm"] for result in found] == ["source"]
    write_tables(benchmark.root, found)
    assert not any((benchmark.root / name).exists() for name in ("pseudo_labels.csv", "judged.csv"))


def test_what_an_earlier_call_finished_stays_in_the_tables_as_long_as_it_can_be_compared(nnunet_folders: Path):
    first = tiny_benchmark(nnunet_folders)
    assert run_benchmark(first, LocalEngine(1), progress=False) == []

    def before(**more) -> list[str]:
        runs = tiny_benchmark(nnunet_folders, **more).runs
        return sorted(result["spec"]["arm"] for result in finished_before(first.root, runs))

    coreset = (Arm("coreset"),)
    assert before(arms=coreset) == ["entropy", "random"]
    assert before(arms=(Arm("random"),)) == ["entropy"]
    assert before(seeds=(1,)) == ["entropy", "random"]
    assert before() == []
    gentle = Recipe(default_recipe(), {"interpolation": 0.5})  # another recipe of the same name
    others = [
        {"stride": 2},
        {"iterations": 2},
        {"budget": 1},
        {"lr": 1e-4},
        {"splits": 2},
        {"held_out": 2},
        {"recipes": (gentle,)},
    ]
    for other in others:
        assert before(arms=coreset, **other) == []
    later = tiny_benchmark(nnunet_folders, arms=coreset)
    assert run_benchmark(later, LocalEngine(1), progress=False) == []
    assert set(read_rows(later.root / "results.csv")["arm"]) == {"source", "random", "entropy", "coreset"}


def test_of_two_earlier_meanings_of_a_name_the_later_one_counts(nnunet_folders: Path):
    first = tiny_benchmark(nnunet_folders, arms=(Arm("entropy"),))
    assert run_benchmark(first, LocalEngine(1), progress=False) == []
    result = json.loads((first.root / "runs" / run_of(first, "entropy").identifier / "result.json").read_text())
    later = {**result, "run": "later", "finished": "9" + result["finished"][1:]}
    later["spec"]["settings"]["strategy_options"] = {"another": 1}
    (first.root / "runs" / "later").mkdir()
    (first.root / "runs" / "later" / "result.json").write_text(json.dumps(later))
    runs = tiny_benchmark(nnunet_folders, arms=(Arm("coreset"),)).runs
    assert [found["run"] for found in finished_before(first.root, runs)] == ["later"]


def run_of(benchmark, arm: str):
    return next(run for run in benchmark.runs if run.arm == arm)
