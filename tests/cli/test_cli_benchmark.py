"""``nnunet_active benchmark`` from the command line."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from tiny_target import NAME, make_target

from nnunet_active.cli.main import main


def test_a_benchmark_runs_goes_on_and_repeats_a_run_from_its_row(
    nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
):
    make_target(nnunet_folders)
    out = nnunet_folders / "out"
    first = [
        "-d",
        NAME,
        "-c",
        "3d_fullres",
        "--strategies",
        "random",
        "--budget",
        "2",
        "--stride",
        "1",
        "--iterations",
        "1",
    ]
    first += ["--seeds", "1", "--splits", "3", "--no-all-labels", "-device", "cpu", "-np", "1"]
    assert main(["benchmark", "-o", str(out), *first]) == 0
    printed = capsys.readouterr().out
    assert "2 of 2 runs are finished" in printed and (out / "summary" / "summary.html").is_file()
    rows = pd.read_csv(out / "results.csv")
    assert main(["benchmark", "-o", str(out), "--summary-only"]) == 0  # the settings are known
    run = rows.loc[rows["arm"] == "random", "run"].iloc[0]
    assert main(["benchmark", "-o", str(out), "--again", run]) == 0
    assert "True" in capsys.readouterr().out


def test_a_user_without_a_folder_or_strategies_is_told(nnunet_folders: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["benchmark", "-o", str(nnunet_folders / "out")]) == 2
    assert "benchmark.json was not found" in capsys.readouterr().err
    assert main(["benchmark", "-o", str(nnunet_folders / "out"), "--strategies", "mmakts"]) == 2
    assert "mmakts" in capsys.readouterr().err


def test_one_number_of_seeds_is_how_many_so_that_none_is_a_mistake(
    nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["benchmark", "-o", str(nnunet_folders / "out"), "--strategies", "random", "--seeds", "0"]) == 2
    assert "one number n means the seeds 0 to n - 1. Seed 0 alone is --seeds 1" in capsys.readouterr().err
