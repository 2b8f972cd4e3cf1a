from __future__ import annotations

import shutil

import numpy as np
import pytest
import tiny_source
from tiny_target import NAME, PLANS, make_target

from nnunet_active.cli.main import main
from nnunet_active.models.source_summary import read_summary, summary_file
from nnunet_active.planners.source_model_planner import SourceModelPlanner


@pytest.fixture
def target(nnunet_folders):
    return make_target(nnunet_folders)


def summarise(target, *flags: str) -> int:
    where = () if {"-d", "-i"} & set(flags) else ("-d", NAME)
    output = () if "-o" in flags else ("-o", str(target.root / "source_summary.npz"))
    return main(["summarize-source", "-m", str(target.model), *where, *output, "-device", "cpu", *flags])


def test_a_summary_is_made_from_a_data_set_or_a_folder_and_tells_what_is_in_it(target, capsys):
    file = target.root / "source_summary.npz"
    assert summarise(target) == 0
    out = capsys.readouterr().out
    assert "1 cluster of 6 cases, 8 features; it holds no image and no case identifier." in out
    assert "docs/source-summary.md" in out
    first = file.read_bytes()
    assert read_summary(file).counts.tolist() == [6]
    assert summarise(target, "-i", str(target.raw / "imagesTr")) == 0
    assert file.read_bytes() == first
    assert b"case_" not in first and NAME.encode() not in first and str(target.root).encode() not in first


def test_a_scan_that_cannot_be_read_is_named_and_the_exit_code_says_so(target, capsys):
    (target.raw / "imagesTr" / "case_2_0000.nii.gz").write_bytes(b"damaged")
    assert summarise(target) == 1
    captured = capsys.readouterr()
    assert "WARNING: case_2 is left out" in captured.err and "cluster of 5 cases" in captured.out
    assert "case_2" not in captured.out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--minimum-cases", "2"], "the floor is 3"),
        (["--minimum-cases", "7"], "at least 7 cases, found 6"),
        (["--clusters", "0"], "--clusters 0 makes no sense"),
        (["-o", "summary.json"], "has to end in .npz"),
        (["-i", "nowhere"], "nowhere was not found"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_nothing_is_written(target, capsys, monkeypatch, flags, said):
    monkeypatch.chdir(target.root)
    before = sorted(target.root.rglob("*"))
    assert summarise(target, *flags) == 2
    lines = capsys.readouterr().err.strip().split("\n")
    assert said in lines[-1] and "Traceback" not in "".join(lines)
    assert sorted(target.root.rglob("*")) == before


def test_a_summary_beside_the_models_plans_travels_with_the_model(target):
    assert summarise(target, "-o", str(target.model / "source_summary.npz")) == 0
    SourceModelPlanner(target.raw, target.model, ["3d_fullres"]).write()
    kept = summary_file(target.preprocessed, PLANS, "3d_fullres")
    assert kept.read_bytes() == (target.model / "source_summary.npz").read_bytes()
    packed = shutil.make_archive(str(target.root / "packed"), "zip", target.model)
    kept.unlink()
    SourceModelPlanner(target.raw, packed, ["3d_fullres"]).write()
    assert kept.read_bytes() == (target.model / "source_summary.npz").read_bytes()


def test_init_takes_a_summary_of_the_kept_source_and_refuses_that_of_another(target, capsys):
    file = str(target.root / "source_summary.npz")
    assert summarise(target) == 0
    init = ["init", "-d", NAME, "-c", "3d_fullres", "--strategy", "aada", "--source-summary", file]
    other = tiny_source.write_trained(tiny_source.source_model(seed=5), target.root / "other")
    assert main([*init, "-m", str(other)]) == 2
    assert "another network" in capsys.readouterr().err
    assert not (target.preprocessed / "active" / "fold_0").exists()
    assert main(init) == 0
    kept = summary_file(target.preprocessed, PLANS, "3d_fullres")
    assert kept.read_bytes() == (target.root / "source_summary.npz").read_bytes()
    assert (kept.parent / "fold_0" / "checkpoint_final.pth").is_file()
    with np.load(kept) as content:
        assert content["centroids"].shape == (1, 8)
