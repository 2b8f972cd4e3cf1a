"""How tight the certificate is: rows of real networks of a tiny benchmark, and the verdict on known rows."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from tiny_benchmark import job_of, tiny_benchmark

from nnunet_active.benchmark.configuration import Arm
from nnunet_active.benchmark.execution import execute

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import certificate


def test_rows_are_of_every_alpha_and_test_case_and_none_is_beyond_its_bound(nnunet_folders: Path):
    arm = Arm("foreground_random")
    job = job_of(tiny_benchmark(nnunet_folders, arms=(arm,), lr=0.1, iterations=4), arm.name)
    result = execute(job)
    shutil.copytree(job.target.preprocessed, job.root / "target" / "nnUNet_preprocessed")
    rows = certificate.measure("tiny", job.root, job.target.raw)
    assert sorted(set(rows["alpha"])) == list(certificate.ALPHAS)
    assert all(set(part["case"]) == set(job.spec.test) for _, part in rows.groupby("alpha"))
    assert (rows["labels"] == len(result["rounds"][-1]["labelled"])).all()
    assert ((rows["iou"] - rows["iou_source"]).abs() <= rows["distance"] + 1e-12).all()
    assert (rows.groupby("case")["iou_source"].nunique() == 1).all()


def test_the_verdict_is_by_network():
    rows = pd.DataFrame(
        [
            ("p", "r", 3, 0.75, "a", 0.5, 0.6, 0.2),
            ("p", "r", 3, 0.75, "b", 0.5, 0.2, 0.4),
            ("p", "s", 3, 0.75, "a", 0.5, 0.9, 0.5),
        ],
        columns=["pair", "run", "labels", "alpha", "case", "iou_source", "iou", "distance"],
    )
    (found,) = certificate.judge(rows).to_dict("records")
    assert found["networks"] == 2 and found["bound"] == pytest.approx(0.4)
    assert found["difference"] == pytest.approx((0.1 + 0.4) / 2) and found["largest"] == pytest.approx(0.4)
    assert found["share"] == pytest.approx(0.25 / 0.4) and found["largest_share"] == pytest.approx(0.8)


def test_no_network_of_the_stored_rows_is_beyond_its_bound():
    rows = pd.read_csv(
        Path(certificate.__file__).parent / "results" / "certificate.csv", dtype={"case": str, "run": str}
    )
    assert ((rows["iou"] - rows["iou_source"]).abs() <= rows["distance"] + 2e-5).all()  # five digits are stored
    assert not rows.duplicated(["pair", "run", "alpha", "case"]).any()
