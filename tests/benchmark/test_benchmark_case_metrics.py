"""The evaluation against stock nnU-Net's own prediction and metrics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager
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


def test_the_iou_with_any_label_differs_from_the_sources_by_at_most_the_distance_of_the_predictions(nnunet_folders):
    job = job_of(tiny_benchmark(nnunet_folders), "source")
    test = Evaluator(job.target, job.spec.test, "cpu", 2.0)
    other = test.source()
    with torch.no_grad():
        for name, bias in other.named_parameters():
            if name.endswith("bias") and len(bias) == 3 and "seg_layers" in name:
                bias[0] += 1000  # everything is background
    maps = dict(test.predictions(test.source()))
    assert (test.measure(test.source(), maps.get)["source_distance"] == 0).all()
    before, after = test.measure(test.source()), test.measure(other, maps.get)
    assert "source_distance" not in before and after["source_distance"].max() == 1
    gap = (after["iou"].fillna(1) - before["iou"].fillna(1)).abs()
    assert gap.max() > 0 and (gap <= after["source_distance"]).all()
    half = {case: np.where(np.arange(found.shape[2]) % 2, 0, found) for case, found in maps.items()}
    rows = test.measure(test.source(), half.get)
    for case, name, value in rows[["case", "class", "source_distance"]].itertuples(index=False):
        whole, left = (np.isin(found[case], test.classes[name]).sum() for found in (maps, half))
        assert value == pytest.approx(1 - left / whole if whole else 0)
    assert 0 < rows["source_distance"].max() < 1


def test_what_nobody_labelled_is_no_outlined_foreground(nnunet_folders, monkeypatch):
    job = job_of(tiny_benchmark(nnunet_folders), "source")
    test = Evaluator(job.target, job.spec.test, "cpu", 2.0)
    monkeypatch.setattr(test, "_reference", lambda case, known: (np.array([0, 1, 2, 3, 3, 3]), None))
    assert test.foreground(["a", "b"]) == 10
    test.labels = LabelManager({"background": 0, "oedema": 1, "core": 2, "ignore": 3}, None)
    assert test.foreground(["a", "b"]) == 4
