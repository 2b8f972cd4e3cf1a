from __future__ import annotations

import ctypes
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from nnunet_active.nnunet import devices
from nnunet_active.nnunet.devices import best_device, choose_device, device_without_torch
from nnunet_active.util.errors import MissingInput


@pytest.fixture
def machine(monkeypatch):
    def has(cuda: bool, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return has


def test_the_gpu_is_taken_where_there_is_one_else_the_cpu(machine):
    for cuda, mps, best in ((True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        machine(cuda, mps)
        assert best_device() == best and choose_device().type == best
    machine(True)
    assert choose_device("cpu").type == "cpu"


@pytest.mark.parametrize(("local", "gpus", "index"), [(0, 2, 0), (1, 2, 1), (3, 2, 1)])
def test_each_process_of_torchruns_takes_a_gpu_of_its_own(machine, monkeypatch, local, gpus, index):
    machine(True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert choose_device() == torch.device("cuda")
    meeting = {"RANK": 5, "WORLD_SIZE": 8, "LOCAL_RANK": local, "MASTER_ADDR": "localhost", "MASTER_PORT": 29500}
    for name, value in meeting.items():
        monkeypatch.setenv(name, str(value))
    assert choose_device() == choose_device("cuda") == torch.device("cuda", index)
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("named", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused_with_the_flag_that_helps(machine, named):
    machine(False)
    with pytest.raises(MissingInput, match=f"Give -device cpu.*no device {named}"):
        choose_device(named)


def test_without_pytorch_the_answer_is_pytorchs_or_none(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert device_without_torch() is None
    monkeypatch.undo()
    code = "import sys; from nnunet_active.nnunet.devices import best_device; print(best_device())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere only PyTorch knows")
def test_a_machine_whose_drivers_show_no_gpu_has_none_and_a_driver_says_how_many(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "_GPU_FILES", (str(tmp_path / "nvidiactl"),))
    assert device_without_torch() == "cpu"
    (tmp_path / "nvidiactl").touch()

    def driver(count: int, version: int) -> SimpleNamespace:
        def put(value):
            def answer(pointer):
                pointer._obj.value = value
                return 0

            return answer

        return SimpleNamespace(cuInit=lambda _: 0, cuDeviceGetCount=put(count), cuDriverGetVersion=put(version))

    for count, version, known in ((1, 99000, "cuda"), (0, 99000, None), (1, 1000, None)):
        monkeypatch.setattr(ctypes, "CDLL", lambda _, found=driver(count, version): found)
        assert device_without_torch() == (known if torch.version.cuda else None)
