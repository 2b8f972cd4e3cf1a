"""Trainings with the unlabelled pool in the laboratory: boxes, what is labelled, and a run that was stopped."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_laboratory import tiny_laboratory

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import mixing
import small_lab as lab

SETTINGS = ["w1@2", "w1-mix@2", "w1-weak@2", "w1-first@2"]


def _scan(name: str) -> lab.Scan:
    label = torch.zeros(8, 16, 16, dtype=torch.int64)
    label[2:6, 4:10, 4:10] = 1
    return lab.Scan(name, name, torch.randn(1, 8, 16, 16) + 3 * label, label)


@pytest.fixture
def call(tmp_path, monkeypatch):
    """The command line on eight scans and a source network that knows nothing."""
    raw, cache = tiny_laboratory(tmp_path, scans=8, seed=3)
    monkeypatch.setenv("nnUNet_raw", str(raw))
    file = tmp_path / "rows.csv"
    given = ["mixing.py", str(cache), "--pairs", "glioma_back", "--seeds", "1", "--csv", str(file), "--settings"]

    def run(*settings: str) -> str:
        monkeypatch.setattr(sys, "argv", [*given, *settings])
        mixing.main()
        return file.read_text()

    return run


def test_a_box_is_a_quarter_to_a_half_of_its_image():
    torch.manual_seed(0)
    area = mixing.boxes(torch.zeros(50, 1, 64, 64)).flatten(1).float().mean(1)
    assert 0.23 < area.min() < 0.3 and 0.44 < area.max() <= 0.5


def test_slices_lie_one_in_each_part_of_what_is_predicted_and_one_slice_beyond():
    scan = _scan("a")
    for seed in range(20):
        first, second = mixing.spread_slices(scan, scan.label, 2, np.random.default_rng(seed))
        assert 1 <= first <= 3 < second <= 6


def test_every_setting_is_run_once_and_a_second_call_trains_only_what_is_new(call, capsys):
    few = call(*SETTINGS[:2])
    assert len(few.splitlines()) == 1 + 2 * len(mixing.ALPHAS)
    capsys.readouterr()
    rows = call(*SETTINGS)
    told = capsys.readouterr().out
    assert rows.startswith(few) and len(rows.splitlines()) == 1 + 4 * len(mixing.ALPHAS)
    assert told.count(" s {") == 2 and "w1-weak@2" in told and "w1-mix@2" not in told


def test_only_the_first_stages_move_where_the_others_are_held(call, monkeypatch):
    moved, train = set(), lab.train

    def watched(network, weights, *given, **named):
        trained = train(network, weights, *given, **named)
        # the decoder holds the encoder too, so its tensors have two names
        moved.update(name.removeprefix("decoder.") for name in trained if not torch.equal(trained[name], weights[name]))
        return trained

    monkeypatch.setattr(lab, "train", watched)
    call("w1-first@2")
    assert moved and all(name.startswith(mixing.FIRST) for name in moved)
