"""Sets of strategies against each other in the laboratory: what is offered, what is run, and the verdict."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import first_picks
import paired_picks
import small_lab as lab
import value_of_labels

from nnunet_active.strategies.strata import StrataStrategy


def _scan(name: str, patient: str, side: int) -> lab.Scan:
    label = torch.zeros(6, 32, 32, dtype=torch.int64)
    label[1:5, 8 : 8 + side, 8:20] = 1
    return lab.Scan(name, patient, torch.randn(1, 6, 32, 32) + 3 * label, label)


@pytest.fixture
def pool() -> value_of_labels.Pool:
    """Eight patients in two halves, each judged on the other; one patient has two scans."""
    torch.manual_seed(0)
    scans = [_scan(f"c{i}", f"p{min(i, 7)}", 6 + i) for i in range(9)]
    sides = scans[4:], scans[:4]
    tests = {scan.name: sides[0] if i < 4 else sides[1] for i, scan in enumerate(scans)}
    network = lab.build(1, 2)
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    return value_of_labels.Pool("glioma_back", scans, tests, network, weights, 2)


def test_a_seed_offers_one_scan_of_a_patient_and_all_of_them_are_judged_on_the_same_scans(pool):
    for seed in range(8):
        scans = paired_picks.offered(pool, seed)
        assert len({scan.patient for scan in scans}) == len(scans) == 3
        assert len({id(pool.tests[scan.name]) for scan in scans}) == 1
    assert {scan.name for scan in paired_picks.offered(pool, 0)} & {f"c{i}" for i in range(4)}
    assert {scan.name for scan in paired_picks.offered(pool, 1)} <= {f"c{i}" for i in range(4, 9)}


def test_a_stop_loses_one_run_and_a_second_call_measures_nothing_twice(pool, tmp_path, monkeypatch):
    monkeypatch.setattr(paired_picks, "STEPS", 2)
    monkeypatch.setattr(paired_picks, "SCANS", {"case": 2, "slice": 3})
    monkeypatch.setattr(paired_picks, "prepare", lambda name, cache: pool)
    first_picks.save(tmp_path / "scored_glioma_back.npz", first_picks.scored(pool))
    file = tmp_path / "rows.csv"
    call = (["glioma_back"], tmp_path, ["foreground_random", "strata"], ["case", "slice"], range(2))
    paired_picks.measure(file, *call)
    rows = pd.read_csv(file)
    assert list(rows) == paired_picks.HEAD and len(rows) == 2 * 2 * 2 * 2
    assert (rows["cases"].str.count(r"\+") + 1).tolist() == rows["unit"].map({"case": 2, "slice": 3}).tolist()
    whole = file.read_text().splitlines(keepends=True)
    file.write_text("".join(whole[:-2]))
    paired_picks.measure(file, *call)
    assert file.read_text() == "".join(whole)


def test_the_last_scans_are_asked_for_by_the_network_that_learned_the_first_and_only_then_difficulty_counts(
    pool, monkeypatch
):
    monkeypatch.setattr(paired_picks, "STEPS", 2)
    monkeypatch.setattr(paired_picks, "SCANS", {"late": 4})
    scans, scored, seen = pool.scans[:8], first_picks.scored(pool), {}
    query = StrataStrategy.query

    def watched(self, given, n, rng):
        result = query(self, given, n, rng)
        seen.setdefault(given.answered, []).append((given.labelled_cases, "doubt" in result.components))
        return result

    monkeypatch.setattr(StrataStrategy, "query", watched)
    chosen = {arm: paired_picks.asked_late(arm, pool, scored, scans, 0) for arm in ("strata", "strata:easy")}
    first = tuple(sorted(scan.name for scan in chosen["strata"][:3]))
    assert [scan.name for scan in chosen["strata:easy"][:3]] == [scan.name for scan in chosen["strata"][:3]]
    assert all(len({scan.name for scan in asked}) == 4 for asked in chosen.values())
    assert seen == {0: [((), False), ((), False), (first, False)], 3: [(first, True)]}


def test_the_verdict_is_the_paired_one_and_all_pools_count_alike():
    rng = np.random.default_rng(0)
    rows = [
        {"pool": pool, "seed": seed, "unit": "case", "arm": arm, "cases": "-", "alpha": 1.0, "change": base + extra}
        for pool, gain in (("a", 0.03), ("b", 0.01))
        for seed in range(10)
        for base in [rng.normal(0, 0.05)]
        for arm, extra in (("foreground_random", 0.0), ("strata", gain + rng.normal(0, 0.01)))
    ]
    rows = pd.DataFrame(rows)
    table = paired_picks.judge(rows).set_index("pool")
    wide = rows.pivot(index=["pool", "seed"], columns="arm", values="change")
    for pool in "ab":
        expected = stats.ttest_rel(wide.loc[pool, "strata"], wide.loc[pool, "foreground_random"])
        low, high = expected.confidence_interval()
        assert table.loc[pool, ["p", "low", "high"]].tolist() == pytest.approx([expected.pvalue, low, high])
    assert (
        table.loc["all", "gain"] == pytest.approx(table.loc[["a", "b"], "gain"].mean())
        and table.loc["all", "runs"] == 10
    )
