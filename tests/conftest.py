"""What all tests share. nnU-Net reads some variables when it is imported, so they are set before anything else."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("nnUNet_def_n_proc", "1")
os.environ.setdefault("nnUNet_n_proc_DA", "0")
os.environ.setdefault("nnUNet_compile", "f")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("BLOSC_NTHREADS", "1")  # its threads do not survive the forks of the tests that kill processes
for _variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "nnUNet_extTrainer"):
    os.environ.pop(_variable, None)  # a test must never touch the folders of whoever runs it

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)
os.fsync = lambda _: (
    None
)  # a killed process loses nothing that it wrote, only a machine does; waiting for disks is a tenth of the time


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are named by their argument: what is packed holds the second, and each worker must collect the same names."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder with real scans and source models; tests that need it are skipped, by name, where it is absent."""
    named = os.environ.get("NNUNET_ACTIVE_TEST_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "models").is_dir():
        pytest.skip(f"no real scans at {folder}; set NNUNET_ACTIVE_TEST_DATA to their folder")
    return folder


@pytest.fixture
def nnunet_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty nnUNet_raw, nnUNet_preprocessed and nnUNet_results in a folder of the test's own; returns that folder."""
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (tmp_path / variable).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / variable))
    return tmp_path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """The target of the tests between rounds, made once for a file of tests, whose ``MADE`` says how; see tiny_rounds."""
    from tiny_rounds import make_once

    return make_once(tmp_path_factory.mktemp("made"), **getattr(request.module, "MADE", {}))


@pytest.fixture
def target(made: Path, nnunet_folders: Path):
    """A copy of it in the folders of the test; most files of tests have a target of their own in its place."""
    from tiny_rounds import copy_of

    return copy_of(made, nnunet_folders)
