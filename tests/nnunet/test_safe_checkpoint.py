from __future__ import annotations

import os
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_source import source_model, write_trained

from nnunet_active.models.source_model import read_source_model
from nnunet_active.nnunet.safe_checkpoint import load_checkpoint, network_weights, weights_digest
from nnunet_active.util.errors import ActiveError, IncompatibleSource, UnsafeCheckpoint


class MakesAFile:
    """Unpickling it runs code, here a harmless ``os.mkdir``."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.fixture(scope="module")
def source():
    return source_model(name="2d")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_that_runs_code_is_refused_and_nothing_runs(source, tmp_path, legacy):
    folder = write_trained(source, tmp_path / "model", logging=MakesAFile(tmp_path / "pwned"))
    if legacy:
        content = {"network_weights": source.weights, "x": MakesAFile(tmp_path / "pwned")}
        torch.save(content, folder / "fold_0" / "checkpoint_final.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(UnsafeCheckpoint, match=r"\.mkdir.*--trust-checkpoint"):
        read_source_model(folder, "2d" if not legacy else None)
    assert not (tmp_path / "pwned").exists()


def test_a_trusted_checkpoint_is_read_in_full(source, tmp_path):
    folder = write_trained(source, tmp_path / "model", logging=MakesAFile(tmp_path / "made"))
    assert read_source_model(folder, trust=True).configuration == "2d"
    assert (tmp_path / "made").is_dir()


def test_a_trusted_checkpoint_that_needs_a_missing_module_is_named(tmp_path, monkeypatch):
    module = types.ModuleType("no_such_module")
    module.Gone = type("Gone", (), {"__module__": "no_such_module"})
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "no_such_module", module)
        torch.save({"network_weights": {}, "x": module.Gone()}, tmp_path / "x.pth")
    with pytest.raises(ActiveError, match=r"x\.pth cannot be read .*No module named 'no_such_module'"):
        load_checkpoint(tmp_path / "x.pth", "x.pth", trust=True)


def test_numpy_values_in_nnunets_log_are_allowed(tmp_path):
    log = {"scalars": [np.float32(1), np.float64(2), np.int64(3), np.bool_(True)], "array": np.arange(3.0)}
    torch.save({"network_weights": {"a": torch.ones(1)}, "logging": log}, tmp_path / "x.pth")
    read = load_checkpoint(tmp_path / "x.pth", "x")["logging"]
    assert read["scalars"] == log["scalars"] and np.array_equal(read["array"], log["array"])


@pytest.mark.parametrize("keep", [0, 10, 300, -200])
def test_a_truncated_checkpoint_is_named(source, tmp_path, keep):
    folder = write_trained(source, tmp_path / "model")
    file = folder / "fold_0" / "checkpoint_final.pth"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ActiveError, match=r"checkpoint_final\.pth cannot be read, it is truncated") as raised:
        read_source_model(folder)
    assert type(raised.value) is ActiveError


@pytest.mark.parametrize("content", [b"hello, world\n", b"{}", b"\x80\x04N.", bytes(range(256))])
def test_another_kind_of_file_is_named(tmp_path, content):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(ActiveError, match=r"x\.pth"):
        load_checkpoint(tmp_path / "x.pth", "x.pth")


def test_a_checkpoint_of_something_else_is_named(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "x.pth")
    with pytest.raises(ActiveError, match=r'not a checkpoint of nnU-Net v2: it holds no "network_weights"'):
        load_checkpoint(tmp_path / "x.pth", "x.pth")
    with pytest.raises(ActiveError, match="are not tensors"):
        network_weights({"network_weights": {"a": 1}}, "x.pth")


def test_prefixes_of_wrappers_are_stripped(source, tmp_path):
    wrapped = {f"module._orig_mod.{key}": value for key, value in source.weights.items()}
    read = read_source_model(write_trained(replace(source, weights=wrapped), tmp_path / "model"))
    assert read.weights.keys() == source.weights.keys()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(source, tmp_path, value):
    key = "decoder.seg_layers.0.bias"
    weights = {**source.weights, key: torch.full((3,), value)}
    with pytest.raises(IncompatibleSource, match=f"{key}.*diverged"):
        read_source_model(write_trained(replace(source, weights=weights), tmp_path / "model"))


def test_the_digest_knows_keys_and_values_and_not_the_storage():
    one = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(True), "c": torch.ones(2, dtype=torch.bfloat16)}
    transposed_twice = one["a"].T.contiguous().T  # equal values, other strides
    same = {"c": torch.ones(4, dtype=torch.bfloat16)[2:], "b": one["b"], "a": transposed_twice}
    assert weights_digest(one) == weights_digest(same)
    assert weights_digest(one) != weights_digest({**one, "b": torch.tensor(False)})
    assert weights_digest({"a": one["a"]}) != weights_digest({"z": one["a"]})


def test_the_digest_knows_networks_apart_by_the_last_digit_of_a_single_weight():
    torch.manual_seed(0)
    network, other = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    other.load_state_dict(network.state_dict())
    assert weights_digest(network.state_dict()) == weights_digest(other.state_dict())
    with torch.no_grad():
        other.bias[1] = torch.nextafter(other.bias[1], torch.tensor(9.0))
    assert weights_digest(network.state_dict()) != weights_digest(other.state_dict())
