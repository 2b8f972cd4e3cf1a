"""Where legs end, what they are found by, and what a kill leaves of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from killed_process import killed_before_rename, needs_fork

from nnunet_active.benchmark.legs import LegCache, drop_checkpoints
from nnunet_active.campaign.fine_tuning import recipe
from nnunet_active.campaign.settings import Settings

HISTORY = [["a"], ["a", "b"]]


def cache(folder: Path, context: dict | None = None, whole_rounds: bool = False, **more) -> LegCache:
    settings = Settings(**{"budget": 2, "stride": 4, "epochs": 20, **more})
    return LegCache(folder, {"trainer": "T", **(context or {})}, settings, whole_rounds)


def save(file: Path) -> None:
    file.write_text("weights")


def test_legs_end_at_every_stride_or_with_the_rounds(tmp_path: Path):
    assert cache(tmp_path).ends() == [4, 8, 12, 16, 20]
    assert cache(tmp_path, whole_rounds=True).ends() == [4, 20]
    assert cache(tmp_path, whole_rounds=True, one_off=True).ends() == [20]
    assert cache(tmp_path, epochs=10).ends() == [4, 8, 10]


def test_a_leg_begins_where_the_one_before_ends(tmp_path: Path):
    legs = cache(tmp_path, whole_rounds=True)
    assert [legs.end_of(epoch) for epoch in (0, 4, 5, 20)] == [4, 20, None, None]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"initial_lr": 0.1},
        {"iterations": 7},
        {"epochs": 24},
        {"restart": "source"},
        {"fine_tuning": {"ema_epochs": 4.0}},
        {"pseudo_labels": {}},
        {"budget": 3},
        {"context": {"trainer": "U"}},
    ],
)
def test_whatever_changes_the_training_changes_the_key(tmp_path: Path, change: dict):
    assert cache(tmp_path).key(HISTORY) != cache(tmp_path, **change).key(HISTORY)


def test_the_strategy_and_the_order_of_requests_do_not_change_the_key(tmp_path: Path):
    other = cache(tmp_path, strategy="entropy", strategy_options={}, modality="replicate")
    assert cache(tmp_path).key(HISTORY) == other.key([["a"], ["b", "a"]])
    assert cache(tmp_path).key(HISTORY) != cache(tmp_path).key([["b"], ["a", "b"]])


@pytest.mark.parametrize("change", [{"strategy": "strata"}, {"strategy": "mmacts", "strategy_options": {"a": 1}}])
def test_with_guarded_the_strategy_changes_the_key_because_the_gate_asks_how_cases_were_drawn(tmp_path: Path, change):
    guarded = {"fine_tuning": recipe("guarded")}
    one, other = cache(tmp_path, strategy="mmacts", **guarded), cache(tmp_path, **guarded, **change)
    assert one.key(HISTORY) != other.key(HISTORY)


def test_a_leg_that_is_kept_is_found_again_and_the_first_one_stays(tmp_path: Path):
    legs = cache(tmp_path)
    assert legs.find(HISTORY) is None
    legs.add(HISTORY, save, {"epoch": 8})
    legs.add(HISTORY, lambda file: file.write_text("others"), {"epoch": 8})
    found = cache(tmp_path).find(HISTORY)
    assert found.checkpoint.read_text() == "weights" and found.facts["history"] == HISTORY


@needs_fork
def test_a_kill_leaves_no_half_leg(tmp_path: Path):
    legs = cache(tmp_path)
    assert killed_before_rename(lambda: legs.add(HISTORY, save, {"epoch": 8}), 0)
    assert legs.find(HISTORY) is None
    legs.add(HISTORY, save, {"epoch": 8})
    assert legs.find(HISTORY).facts["epoch"] == 8


def test_dropped_checkpoints_are_trained_again_where_they_are_needed(tmp_path: Path):
    legs = cache(tmp_path)
    legs.add(HISTORY, save, {"epoch": 8})
    assert drop_checkpoints(tmp_path) == len("weights")
    assert legs.find(HISTORY) is None
    assert legs.add(HISTORY, save, {"epoch": 8}).checkpoint.read_text() == "weights"
