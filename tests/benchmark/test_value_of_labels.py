"""The look-up table of what each label is worth: its rows, its first picks and its verdicts."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_laboratory import tiny_laboratory

from nnunet_active.strategies import ScoredPool
from nnunet_active.strategies.strata import by_class, plausible, typicality

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import first_picks
import judged_picks
import small_lab as lab
import value_of_labels


def _pool(n: int = 20, seed: int = 0) -> ScoredPool:
    """Two classes; the cases are points of a cloud, the last one far away, the first one without any prediction."""
    rng = np.random.default_rng(seed)
    volume = np.column_stack([np.full(n, 1000), rng.integers(50, 100, (n, 2))])
    volume[0, 1:] = 0
    mean = rng.normal(size=(n, 3, 4)) + 5
    mean[-1] = -5
    mean *= (volume > 0)[..., None]
    table = pd.DataFrame(
        {
            "mean_entropy": rng.random(n),
            "foreground_voxels": volume[:, 1:].sum(1),
            "foreground_entropy": rng.random(n),
            "class_balanced_entropy": rng.random(n),
            "soft_dice_confidence": rng.random(n),
            "density": rng.random(n),
        },
        index=[f"c{i:02d}" for i in range(n)],
    )
    return ScoredPool(table, {"embedding": mean.mean(1), "class_volume": volume, "class_mean": mean})


def _scan(name: str) -> lab.Scan:
    return lab.Scan(name, name, torch.zeros(1, 1, 16, 16), torch.zeros(1, 16, 16, dtype=torch.int64))


@pytest.fixture
def space(tmp_path, monkeypatch):
    """Raw scans of the glioma pair, turned round, and a source network that knows nothing."""
    raw, cache = tiny_laboratory(tmp_path, scans=6, seed=0)
    monkeypatch.setenv("nnUNet_raw", str(raw))
    monkeypatch.setattr(value_of_labels, "STEPS", 2)
    return cache, tmp_path / "rows.csv"


def test_every_case_is_labelled_alone_and_judged_on_the_other_half_and_a_stop_loses_nothing(space):
    cache, file = space
    value_of_labels.measure(file, [value_of_labels.prepare("glioma_back", cache)], 1, 0, None)
    rows = pd.read_csv(file)
    assert list(rows) == value_of_labels.HEAD
    assert sorted(rows["cases"].unique()) == [f"p{i}" for i in range(6)]
    assert set(rows["alpha"]) == {0.75, 1.0}
    tested = rows.groupby("cases")["test"].agg(set)
    assert all(len(names) == 3 and case not in names for case, names in tested.items())
    whole = file.read_text()
    file.write_text("".join(whole.splitlines(keepends=True)[:-2]) + "glioma_back,0,1,p1,1.0,p2,0.0")
    value_of_labels.measure(file, [value_of_labels.prepare("glioma_back", cache)], 1, 0, None)
    again = pd.read_csv(file).drop_duplicates(value_of_labels.HEAD[:6], keep="last")
    assert len(again) == len(rows)
    pd.testing.assert_frame_equal(judged_picks.worths(pd.read_csv(file)), judged_picks.worths(rows))


def test_of_a_scan_so_many_slices_are_trained_on_and_the_table_is_another(space):
    cache, file = space
    pool = replace(value_of_labels.prepare("glioma_back", cache), slices=2)
    samples = value_of_labels.labelled(pool, (pool.scans[0],), 0)
    assert sum(len(labels) for _, labels in samples.groups) == 2
    value_of_labels.measure(file, [pool], 1, 0, 2)
    of_slices = pd.read_csv(file)
    file.unlink()
    value_of_labels.measure(file, [replace(pool, slices=None)], 1, 0, 2)
    whole = pd.read_csv(file)
    assert list(of_slices["cases"]) == list(whole["cases"]) and not np.allclose(of_slices["dice"], whole["dice"])


def test_pairs_are_of_two_patients_with_the_same_test_scans_and_the_tables_are_written(space, tmp_path):
    cache, file = space
    pool = value_of_labels.prepare("glioma_back", cache)
    for labels, seed, most in ((1, 0, None), (1, 1, None), (2, 0, 4), (3, 0, 2)):
        value_of_labels.measure(file, [pool], labels, seed, most)
    sides = {scan.name: id(tests) for scan, tests in ((scan, pool.tests[scan.name]) for scan in pool.scans)}
    pairs = [key.split("+") for key in pd.read_csv(file).query("labels == 2")["cases"].unique()]
    assert len(pairs) == 4 and all(a != b and sides[a] == sides[b] for a, b in pairs)
    first_picks.save(cache / "scored_glioma_back.npz", first_picks.scored(pool))
    first_picks.save(cache / "scored_glioma_back_source.npz", first_picks.scored(replace(pool, scans=pool.known)))
    value_of_labels.judge(file, cache, tmp_path / "out.csv")
    cases = pd.read_csv(tmp_path / "out_cases.csv")
    assert len(cases) == 12 and cases["again"].notna().all()
    assert np.allclose(cases.groupby("alpha")[[name for name in cases if name.startswith("p ")]].sum(), 1, atol=1e-3)
    sets = pd.read_csv(tmp_path / "out_sets.csv")
    single = cases.set_index(["alpha", "case"])["change"]
    for alpha, names, found in sets[["alpha", "cases", "mean worth of the single cases"]].to_numpy():
        assert found == pytest.approx(np.mean([single[alpha, name] for name in names.split("+")]), abs=1e-4)
    found = pd.read_csv(tmp_path / "out_sets_properties.csv")
    assert set(found["labels"]) == {2, 3} and "mean distance to the source" in set(found["property"])


def test_the_distance_to_the_source_is_that_to_the_nearest_scan_it_was_trained_on():
    pool = _pool()
    assert first_picks.from_source(pool, pool) == pytest.approx(0, abs=1e-6)
    part = first_picks.only(pool, {"c03", "c07"})
    expected = np.linalg.norm(by_class(pool)[:, None] - by_class(part)[None], axis=2).min(axis=1)
    assert first_picks.from_source(pool, part) == pytest.approx(expected)


def test_strata_draws_typical_plausible_cases_and_leaves_a_tenth_to_chance():
    pool = _pool()
    (chance,) = first_picks.strata(pool, np.array(pool.cases))
    assert chance.sum() == pytest.approx(1)
    good = plausible(pool)
    assert not good[0] and chance[0] == pytest.approx(0.1 / 20)
    assert chance[~good] == pytest.approx(0.1 / 20)
    typical = typicality(by_class(pool))
    assert typical.argmin() == 19
    order = np.argsort(typical[good])
    assert (np.diff(chance[good][order]) >= -1e-12).all()


def test_strata_asks_for_one_scan_of_a_patient_and_one_cluster_for_each_label():
    pool = _pool()
    patients = np.array([f"p{i // 2}" for i in range(20)])
    picks = first_picks.strata(pool, patients, labels=3)
    drawn = np.stack(picks) > 0
    assert len(picks) == 3 and np.allclose(np.sum(picks, axis=1), 1)
    assert drawn.sum() == 10 and drawn.sum(0).max() == 1
    assert all(drawn.any(0)[patients == patient].sum() == 1 for patient in np.unique(patients))


def test_every_first_pick_is_a_probability_and_the_plain_ones_are_what_they_say():
    pool = _pool()
    picks = first_picks.first_picks(pool, np.array(pool.cases))
    assert all(chance.sum() == pytest.approx(1) and (chance >= 0).all() for chance in picks.values())
    assert picks["foreground_random"][0] == 0 and picks["foreground_random"][1:] == pytest.approx(1 / 19)
    volume = pool.column("foreground_voxels")
    assert set(np.flatnonzero(picks["largest prediction"])) == set(np.flatnonzero(volume == volume.max()))
    utility = np.prod([pool.column(name) for name in ("mean_entropy", "foreground_voxels", "density")], axis=0)
    assert picks["mmacts"].argmax() == utility.argmax() and picks["mmacts"].max() == 1


def test_test_scans_that_are_easier_do_not_make_a_case_better():
    rows = [
        {"pool": "a", "seed": 0, "labels": 1, "cases": case, "alpha": 1.0, "test": test, "change": value + easier}
        for case, value, test, easier in (
            ("c1", 0.01, "t1", 0.5), ("c2", 0.03, "t1", 0.5), ("c3", 0.0, "t2", 0.0), ("c4", 0.04, "t2", 0.0),
        )
    ]  # fmt: skip
    change = judged_picks.worths(pd.DataFrame(rows)).set_index("cases")["change"]
    assert change.mean() == pytest.approx(np.mean([row["change"] for row in rows]))
    assert (change - change.mean()).to_dict() == pytest.approx({"c1": -0.01, "c2": 0.01, "c3": -0.02, "c4": 0.02})


def test_a_pick_is_judged_against_the_mean_of_all_cases_with_an_exact_chance():
    values = np.arange(20) / 100
    best, uniform = np.eye(20)[19], np.full(20, 0.05)
    cases = pd.DataFrame({"pool": "a", "alpha": 1.0, "change": values, "p best": best, "p random": uniform})
    table = judged_picks.judge(cases)
    of = table[table["pool"] == "a"].set_index("strategy")
    assert of.loc["best", "expected"] == pytest.approx(0.19)
    assert of.loc["best", "above"] == pytest.approx(0.095 / values.std(ddof=1))
    assert of.loc["best", "p"] == pytest.approx(0.1, abs=0.02)  # the best or the worst of 20, two-sided
    assert of.loc["best", "better_than"] == pytest.approx(0.95)
    assert of.loc["random", "above"] == pytest.approx(0) and of.loc["random", "p"] == 1


def test_a_property_that_goes_with_the_worth_is_found_and_one_that_does_not_is_not():
    rng = np.random.default_rng(0)
    known, noise = rng.random((2, 80))
    cases = pd.DataFrame(
        {"pool": ["a"] * 40 + ["b"] * 40, "alpha": 1.0, "change": known**3, "known": known, "noise": noise, "same": 1.0}
    )
    table = judged_picks.correlate(cases, ["known", "noise", "same"]).set_index(["property", "pool"])
    assert table.loc[("known", "mean"), "rho"] == pytest.approx(1)
    assert table.loc[("known", "mean"), "p_holm"] < 0.001 and table.loc[("noise", "mean"), "p_holm"] > 0.05
    assert "same" not in table.index.get_level_values(0)


def test_the_runs_that_a_difference_takes_and_the_noise_come_from_the_spread():
    rng = np.random.default_rng(0)
    true = rng.normal(0, 0.03, 2000)
    first, again = (true + rng.normal(0, 0.04, 2000) for _ in range(2))
    table = judged_picks.spread(pd.DataFrame({"pool": "a", "alpha": 1.0, "change": first, "again": again}))
    assert table["sd"][0] == pytest.approx(0.05, rel=0.05) and table["noise"][0] == pytest.approx(0.04, rel=0.05)
    assert table["share_of_the_case"][0] == pytest.approx(0.36, abs=0.05)
    assert table["runs"][0] == pytest.approx((2.8 * table["sd"][0] / 0.01) ** 2)


def test_the_corrected_chances_are_holms():
    assert judged_picks.holm(np.array([0.01, 0.04, 0.03])).tolist() == pytest.approx([0.03, 0.06, 0.06])


def test_all_scans_of_a_pool_that_is_not_halved_are_judged_on_the_same_scans():
    target = [_scan(f"c{i:03d}") for i in range(130)]
    pool, tests = value_of_labels.parted("hippocampus", target, np.random.default_rng(0))
    assert len(pool) == value_of_labels.POOLED and len({id(tests[scan.name]) for scan in pool}) == 1
    assert not {scan.name for scan in pool} & {scan.name for scan in tests[pool[0].name]}
