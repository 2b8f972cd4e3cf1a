"""The evaluation against stock nnU-Net's own prediction and metrics."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_benchmark import job_of, tiny_benchmark

from nnunet_active.benchmark.evaluation import Evaluator
from nnunet_active.benchmark.execution import execute
from nnunet_active.benchmark.results import per_class, read_rows, write_tables
from nnunet_active.demo.evaluation import evaluate


def test_dice_and_iou_are_those_of_the_stock_predictor_and_of_stock_metrics(nnunet_folders: Path):
    benchmark = tiny_benchmark(nnunet_folders)
    job = job_of(benchmark, "source")
    table = per_class(
        Evaluator(job.target, job.spec.test, "cpu", 2.0).measure(
            Evaluator(job.target, job.spec.test, "cpu", 2.0).source()
        )
    )
    raw = nnunet_folders / "nnUNet_raw" / job.spec.dataset
    images, labels = nnunet_folders / "test_images", nnunet_folders / "test_labels"
    images.mkdir(), labels.mkdir()
    for case in job.spec.test:
        for file in (raw / "imagesTr").glob(f"{case}_*"):
            (images / file.name).symlink_to(file)
        (labels / f"{case}.nii.gz").symlink_to(raw / "labelsTr" / f"{case}.nii.gz")
    (fold,) = (folder.name.removeprefix("fold_") for folder in job.target.source.glob("fold_*"))
    stock = evaluate(job.target.source, images, labels, nnunet_folders / "out", fold, progress=False)
    assert stock.mean_dice > 0
    for name, row in stock.per_class.iterrows():
        assert table.loc[name, "dice"] == pytest.approx(row["dice"], abs=1e-9)
        assert table.loc[name, "iou"] == pytest.approx(row["iou"], abs=1e-9)
    assert table.loc["mean", "dice"] == pytest.approx(stock.mean_dice)


def test_rows_hold_all_that_is_needed_to_do_the_run_again(nnunet_folders: Path):
    benchmark = tiny_benchmark(nnunet_folders)
    results = [execute(job) for job in benchmark.open_jobs()]
    rows, cases = (read_rows(file) for file in write_tables(benchmark.root, results))
    ours = rows[rows["arm"] == "entropy"]
    assert ours["labels"].tolist() == [1, 1, 1, 2, 2, 2] and set(ours["class"]) == {"oedema", "core", "mean"}
    assert json.loads(ours["spec"].iloc[0]) == job_of_arm(benchmark, "entropy").to_json()
    assert {"nnunetv2", "torch"} <= set(json.loads(ours["versions"].iloc[0]))
    assert set(json.loads(ours["digests"].iloc[0])) == {"plans", "source", "cases"}
    mean = cases[(cases["arm"] == "entropy") & (cases["labels"] == 2)].groupby("class")["dice"].mean()
    for name, value in mean.items():
        assert ours[(ours["class"] == name) & (ours["labels"] == 2)]["dice"].iloc[0] == pytest.approx(
            value, nan_ok=True
        )
    times = ours[[f"seconds_{part}" for part in ("trained_here", "query", "evaluation", "overhead")]].iloc[0]
    assert times.sum() == pytest.approx(ours["seconds_wall"].iloc[0], abs=0.01)
    assert np.all(times >= 0)


def job_of_arm(benchmark, arm: str):
    return next(run for run in benchmark.runs if run.arm == arm)
