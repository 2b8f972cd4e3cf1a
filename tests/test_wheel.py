from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from tiny_target import NAME, PLANS, make_target

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def clean_python(tmp_path_factory) -> Path:
    """A new environment with the wheel in it; its dependencies are those of the environment that runs the tests."""
    work = tmp_path_factory.mktemp("wheel")
    source = work / "source"
    source.mkdir()
    for name in ("nnunet_active", "trainers", "planners"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    quiet = ["--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *quiet, "-w", str(work), str(source)], check=True)
    subprocess.run([sys.executable, "-m", "venv", str(work / "venv")], check=True)
    python = work / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    (wheel,) = work.glob("nnunet_active-*.whl")
    subprocess.run([str(python), "-m", "pip", "install", *quiet, str(wheel)], check=True)
    own = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    # a plain path in a .pth file: nnU-Net is found there, an editable install of this package is not
    (Path(own.stdout.strip()) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def call(python: Path, *arguments: str, **variables: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | variables
    run = subprocess.run(
        [str(python), *arguments], capture_output=True, text=True, env=environment, cwd=python.parent, timeout=300
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_the_wheel_holds_every_file_of_the_source(clean_python):
    """An editable install finds a folder that setup.cfg does not list, a wheel does not."""
    where = call(clean_python, "-c", "import nnunet_active; print(nnunet_active.__file__)").strip()
    installed, missing = Path(where).parent, []
    assert installed.is_relative_to(clean_python.parents[1])
    for folder, there in (("nnunet_active", ""), ("trainers", "trainers"), ("planners", "planners")):
        for file in (ROOT / folder).rglob("*"):
            relative = file.relative_to(ROOT / folder)
            if file.is_file() and "__pycache__" not in relative.parts and not (installed / there / relative).is_file():
                missing.append(f"{folder}/{relative}")
    assert missing == []


@pytest.mark.stock
def test_the_wheel_in_a_clean_environment_trains_with_the_stock_command_and_queries_between_two_epochs(
    clean_python, nnunet_folders
):
    where = call(clean_python, "-c", "import nnunet_active, nnunet_active.trainers as t; print(t.__file__)").strip()
    assert Path(where).is_relative_to(clean_python.parents[1])
    target = make_target(nnunet_folders)
    program = str(clean_python.parent / "nnunet_active")
    discovery = call(clean_python, program, "trainers").strip()
    assert Path(discovery).is_relative_to(clean_python.parents[1])
    settings = ["--budget", "2", "--stride", "1", "--epochs", "2", "--iterations", "2", "--val-iterations", "1"]
    call(clean_python, program, "init", "-d", NAME, "-c", "3d_fullres", "-f", "0", *settings)
    shown = call(
        clean_python,
        *("-m", "nnunetv2.run.run_training", NAME, "3d_fullres", "0"),
        *("-tr", "nnUNetTrainerMmActS", "-p", PLANS, "-device", "cpu"),
        nnUNet_extTrainer=discovery,
        nnUNet_n_proc_DA="0",
        nnUNet_def_n_proc="1",
    )
    assert "Query 1 of 2" in shown
    assert "Query 2 before epoch 1" in shown
    assert "Mean Validation Dice" in shown
    splits = json.loads((target.preprocessed / "splits_final.json").read_text())
    assert len(splits[0]["train"]) == 2
