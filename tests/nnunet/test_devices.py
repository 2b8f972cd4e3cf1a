from __future__ import annotations

import pytest
import torch

from nnunet_active.nnunet.devices import best_device, choose_device
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


@pytest.mark.parametrize("named", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused_with_the_flag_that_helps(machine, named):
    machine(False)
    with pytest.raises(MissingInput, match=f"Give -device cpu.*no device {named}"):
        choose_device(named)
