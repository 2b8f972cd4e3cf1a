from __future__ import annotations

import pytest
import torch

from nnunet_active.scoring.groups import sum_by_group

GROUP = torch.tensor([0, 2, 2, 5, 0, 2])


def test_values_are_added_up_by_group_and_absent_groups_have_none():
    found = sum_by_group(GROUP, torch.tensor([1.0, 2, 3, 4, 5, 6], dtype=torch.float64), 7)
    assert found.dtype == torch.float64 and found.tolist() == [6, 0, 11, 0, 0, 4, 0]


def test_without_values_it_counts():
    assert sum_by_group(GROUP, None, 6).tolist() == [2, 0, 3, 0, 0, 1]


def test_millions_of_small_values_stay_exact():
    n = 3_000_000
    found = sum_by_group(torch.zeros(n, dtype=torch.int64), torch.full((n,), 0.1, dtype=torch.float64), 1)
    assert float(found) == pytest.approx(0.1 * n, rel=1e-9)


@pytest.mark.parametrize("size", [6, 2**21])
def test_the_way_of_a_gpu_gives_the_same(size, monkeypatch):
    """Taken on the CPU here; only the device's type decides the way."""
    if not torch.cuda.is_available():
        monkeypatch.setattr("nnunet_active.scoring.groups.WITH_BINCOUNT", ())
    values = torch.arange(6, dtype=torch.float64)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for weights in (values, None):
        found = sum_by_group(GROUP.to(device), weights if weights is None else weights.to(device), size).cpu()
        assert found.tolist()[:6] == torch.bincount(GROUP, weights, minlength=6).tolist() and len(found) == size
