"""With one label: the agreement of the networks at several alpha, and what taking the one that agrees best would have done."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import one_label
import small_lab as lab
import value_of_labels


def probabilities(foreground: list[float]) -> torch.Tensor:
    """One row of voxels in one slice, (1, 2, 1, W)."""
    p = torch.tensor(foreground)
    return torch.stack([1 - p, p])[None, :, None]


def test_the_agreement_is_the_dice_with_the_prediction_of_the_mean():
    near, far = probabilities([0.9, 0.9, 0.1, 0.1]), probabilities([0.1, 0.9, 0.9, 0.9])
    # the mean of three has foreground in the first two voxels
    assert one_label.agreements([near, near, far]) == pytest.approx([1, 1, 2 * 1 / (2 + 3)])
    empty = probabilities([0.1, 0.2])
    assert one_label.agreements([empty, empty]) == [1, 1]


def test_a_network_is_judged_on_scans_that_it_was_not_trained_on_by_the_pool_without_labels(monkeypatch):
    monkeypatch.setattr(value_of_labels, "STEPS", 2)
    torch.manual_seed(0)
    labels = torch.zeros(2, 32, 32, dtype=torch.int64)
    labels[:, 8:20, 8:20] = 1
    scans = [lab.Scan(f"p{i}", f"p{i}", labels[None] + 0.1 * torch.randn(1, 2, 32, 32), labels) for i in range(4)]
    network = lab.build(1, 2)
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    tests = {scan.name: scans[2:] for scan in scans[:2]}
    pool = value_of_labels.Pool("glioma", scans, tests, network, weights, 2)
    rows = pd.DataFrame(one_label.measure(pool, (scans[0],))).set_index("alpha")
    assert list(rows.index) == list(one_label.ALPHAS) and set(rows["cases"]) == {"p0"}
    source = value_of_labels.dice_of(pool, weights, scans[2:])
    assert rows.loc[0.0, "dice"] == pytest.approx(sum(source.values()) / 2)
    assert rows["agreement"].between(0, 1).all()


def test_the_verdict_takes_the_alpha_that_agrees_best_and_counts_who_loses():
    agreement = {0.0: 0.7, 0.25: 0.8, 0.5: 0.85, 0.75: 0.9, 1.0: 0.6}
    dice = {0.0: 0.5, 0.25: 0.51, 0.5: 0.52, 0.75: 0.49, 1.0: 0.3}
    rows = pd.DataFrame(
        [
            ("glioma", 1, case, a, agreement[a], dice[a] + 0.1 * (case == "b"))
            for case in "ab"
            for a in one_label.ALPHAS
        ],
        columns=[*one_label.NETWORK, "alpha", "agreement", "dice"],
    )
    found = one_label.judge(rows)
    found = found[found["pair"] == "all"].set_index("way")
    assert found.loc["agreement", ["networks", "worse", "alpha"]].tolist() == [2, 2, 0.75]
    assert found.loc["agreement", "mean"] == pytest.approx(-0.01) == found.loc["agreement", "worst"]
    assert found.loc["agreement of the floors", "alpha"] == 0.5 and found.loc["0.25", "mean"] == pytest.approx(0.01)
