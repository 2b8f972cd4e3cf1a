"""``nnunet_active benchmark`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from tiny_target import NAME, PLANS, make_target

from nnunet_active.cli.main import main

RANDOM = f"-d {NAME} -c 3d_fullres --strategies random --stride 1 --iterations 1 --seeds 1".split()


def test_a_benchmark_runs_goes_on_and_repeats_a_run_from_its_row(
    nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
):
    make_target(nnunet_folders)
    out = nnunet_folders / "out"
    first = [*RANDOM, "--budget", "2", "--splits", "3", "--no-all-labels", "-device", "cpu", "-np", "1"]
    assert main(["benchmark", "-o", str(out), *first]) == 0
    printed = capsys.readouterr().out
    assert "2 of 2 runs are finished" in printed and (out / "summary" / "summary.html").is_file()
    rows = pd.read_csv(out / "results.csv")
    (out / "results.csv").unlink()  # as a kill before it was written leaves it
    assert main(["benchmark", "-o", str(out), "--summary-only"]) == 0  # the settings are known
    assert "earlier calls" not in capsys.readouterr().out and len(pd.read_csv(out / "results.csv")) == len(rows)
    run = rows.loc[rows["arm"] == "random", "run"].iloc[0]
    assert main(["benchmark", "-o", str(out), "--again", run]) == 0
    assert "True" in capsys.readouterr().out


def test_a_file_of_splits_is_the_same_one_wherever_the_benchmark_goes_on(
    nnunet_folders: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    target = make_target(nnunet_folders)
    cases = sorted(file.name.split(".")[0] for file in (target.raw / "labelsTr").iterdir())
    for name, test in (("here", cases[:2]), ("there", cases[2:4])):
        (nnunet_folders / name).mkdir()
        content = json.dumps([{"train": [case for case in cases if case not in test], "val": test}])
        (nnunet_folders / name / "splits.json").write_text(content)
    monkeypatch.chdir(nnunet_folders / "here")
    command = ["benchmark", "-o", str(nnunet_folders / "out"), "-np", "1"]
    first = [*RANDOM, "--budget", "1", "--no-all-labels", "-device", "cpu", "--split-file", "splits.json"]
    assert main([*command, *first]) == 0
    monkeypatch.chdir(nnunet_folders / "there")
    capsys.readouterr()
    assert main(command) == 0 and "2 of 2 runs" in capsys.readouterr().out
    assert len(list((nnunet_folders / "out" / "runs").iterdir())) == 2


def test_slices_need_their_unit(nnunet_folders: Path, capsys: pytest.CaptureFixture[str]):
    (nnunet_folders / "nnUNet_raw" / NAME).mkdir()
    named = ["-d", NAME, "-c", "3d_fullres", "--strategies", "random", "--per-case", "2"]
    assert main(["benchmark", "-o", str(nnunet_folders / "out"), *named]) == 2
    assert "--per-case says something of slices" in capsys.readouterr().err


def test_a_user_without_a_folder_or_strategies_is_told(nnunet_folders: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["benchmark", "-o", str(nnunet_folders / "out")]) == 2
    assert "benchmark.json was not found" in capsys.readouterr().err
    (nnunet_folders / "nnUNet_raw" / NAME).mkdir()
    named = ["-d", NAME, "-c", "3d_fullres", "--strategies", "mmakts"]
    assert main(["benchmark", "-o", str(nnunet_folders / "out"), *named]) == 2
    assert "mmakts" in capsys.readouterr().err


def test_a_benchmark_that_began_with_a_source_model_goes_on_by_its_folder_alone(
    nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
):
    made = make_target(nnunet_folders)
    made.preprocessed.rename(nnunet_folders / "elsewhere")
    go_on = ["benchmark", "-o", str(nnunet_folders / "out")]
    first = [*go_on, "-d", NAME, "-c", "3d_fullres", "-m", str(made.model), "--strategies", "random", "--budget", "1"]
    first += ["--stride", "1", "--iterations", "1", "--seeds", "1", "--splits", "3", "--no-all-labels"]
    assert main([*first, "-device", "cpu", "-np", "1"]) == 0
    run = pd.read_csv(nnunet_folders / "out" / "results.csv").query("arm == 'random'")["run"].iloc[0]
    for more, said in (
        ([], "2 of 2 runs"),
        (["--again", run], "True"),
        (["--seeds", "2", "-np", "1"], "3 of 3 runs"),
        (["--strategies", "random", "foreground_random", "--summary-only"], "3 of 5 runs"),
        (["--summary-only", "--drop-checkpoints"], "MiB of checkpoints were deleted"),
    ):
        capsys.readouterr()
        assert main([*go_on, *more]) == 0, more
        assert said in capsys.readouterr().out, more


@pytest.mark.parametrize(
    ("text", "said"),
    [("{x", "--cluster-options {x is not JSON (Expecting"), ("[1]", "--cluster-options [1] must be a JSON object")],
)
def test_cluster_options_that_cannot_be_used_are_one_sentence(
    text: str, said: str, nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
):
    wrong = ["--strategies", "random", "--cluster-options", text]
    assert main(["benchmark", "-o", str(nnunet_folders / "out"), *wrong]) == 2
    assert said in capsys.readouterr().err


def test_a_benchmark_without_a_configuration_is_told_which_flag_names_it(
    nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
):
    target = make_target(nnunet_folders)
    (target.preprocessed / f"{PLANS}.json").unlink()
    assert main(["benchmark", "-o", str(nnunet_folders / "out"), "-d", "902", "--strategies", "random"]) == 2
    assert "'configuration'; name it with -c." in capsys.readouterr().err


def test_one_number_of_seeds_is_how_many_so_that_none_is_a_mistake(
    nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["benchmark", "-o", str(nnunet_folders / "out"), "--strategies", "random", "--seeds", "0"]) == 2
    assert "one number n means the seeds 0 to n - 1. Seed 0 alone is --seeds 1" in capsys.readouterr().err
