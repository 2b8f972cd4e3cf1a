"""The evaluation against stock nnU-Net's own prediction and metrics."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_benchmark import job_of, tiny_benchmark

from nnunet_active.benchmark.case_metrics import Evaluator
from nnunet_active.benchmark.results import per_class
from nnunet_active.demo.predict_and_measure import evaluate


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
