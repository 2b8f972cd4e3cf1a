"""Numbers that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from benchmark_rows import case_rows, rows

from nnunet_active.benchmark import measures
from nnunet_active.benchmark.paired_tests import paired


@pytest.fixture
def table() -> pd.DataFrame:
    return measures.with_ways(
        rows(
            {
                ("source", 0): {0: 0.4},
                ("all labels", 0): {8: 0.8},
                ("all labels", 1): {8: 0.9},
                ("mmacts", 0): {1: 0.5, 2: 0.7, 3: 0.6},
                ("mmacts", 1): {1: 0.3, 2: 0.7, 3: 0.8},
                ("mmacts:one_off", 0): {3: 0.7},
            }
        )
    )


def test_a_curve_is_the_mean_and_the_spread_over_seeds(table: pd.DataFrame):
    curve = measures.curves(table)
    first = curve[(curve["way"] == "mmacts") & (curve["labels"] == 1)].iloc[0]
    assert first["mean"] == pytest.approx(0.4) and first["n"] == 2
    assert first["std"] == pytest.approx(np.std([0.5, 0.3], ddof=1))


def test_the_area_is_the_mean_height_of_the_curve():
    assert measures.budget_area(np.array([1, 2, 3]), np.array([0.5, 0.7, 0.6])) == pytest.approx(0.625)
    assert measures.budget_area(np.array([2, 4, 1]), np.array([1.0, 1.0, 1.0])) == 1.0
    assert np.isnan(measures.budget_area(np.array([3]), np.array([0.7])))
    assert measures.budget_area(np.array([1]), np.array([0.7])) == 0.7


def test_the_gap_is_measured_with_the_same_seeds_reference(table: pd.DataFrame):
    runs = measures.per_run(table).set_index(["way", "seed"])
    assert runs.loc[("mmacts", 0), "gap"] == pytest.approx((0.6 - 0.4) / (0.8 - 0.4))
    assert runs.loc[("mmacts", 1), "gap"] == pytest.approx((0.8 - 0.4) / (0.9 - 0.4))
    overview = measures.overview(table).set_index("way")
    assert overview.loc["mmacts", "gap"] == pytest.approx((0.7 - 0.4) / (0.85 - 0.4))
    assert overview.loc["mmacts", "runs"] == 2 and np.isnan(overview.loc["mmacts:one_off", "area"])


def test_no_gap_worth_closing_is_said_and_not_divided_by():
    table = measures.with_ways(rows({("source", 0): {0: 0.80}, ("all labels", 0): {8: 0.81}, ("random", 0): {1: 0.9}}))
    assert np.isnan(measures.per_run(table)["gap"].iloc[0])
    assert np.isnan(measures.overview(table)["foreground_efficiency"].iloc[0])


def test_foreground_efficiency_finds_the_rate_that_made_the_curve():
    share = np.array([0.05, 0.1, 0.2, 0.4])
    source, full = np.full(4, 0.3), np.full(4, 0.9)
    values = full - (full - source) * np.exp(-6.0 * share)
    assert measures.foreground_rate(share, values, source, full) == pytest.approx(6.0, rel=1e-3)
    assert measures.foreground_rate(share, source - 0.1, source, full) == pytest.approx(0.0, abs=1e-3)


def test_recipes_make_ways_of_their_own_only_where_there_are_several():
    one = rows({("source", 0): {0: 0.4}, ("random", 0): {1: 0.5}})
    assert set(measures.with_ways(one)["way"]) == {"source", "random"}
    other = one[one["arm"] == "random"].assign(recipe="averaged")
    both = measures.with_ways(pd.concat([one, other], ignore_index=True))
    assert set(both["way"]) == {"source", "random / plain", "random / averaged"}
    assert measures.strategies(both) == ["random / plain", "random / averaged"]


def test_harm_counts_runs_and_cases_that_lost(table: pd.DataFrame):
    cases = measures.with_ways(
        case_rows(
            {
                ("source", 0): {0: [0.4, 0.4]},
                ("mmacts", 0): {1: [0.3, 0.7], 2: [0.7, 0.7], 3: [0.6, 0.6]},
                ("mmacts", 1): {1: [0.2, 0.4], 2: [0.7, 0.7], 3: [0.8, 0.8]},
            }
        )
    )
    harm = measures.harm(table, cases).set_index(["way", "labels"])
    first = harm.loc[("mmacts", 1)]
    assert first["runs"] == 2 and first["worse_runs"] == 0.5
    assert first["loss"] == pytest.approx(-0.1) and first["worst"] == pytest.approx(-0.1)
    assert first["worse_cases"] == 0.5
    assert harm.loc[("mmacts", 3), "worse_runs"] == 0 and harm.loc[("mmacts", 3), "loss"] == 0


def test_what_is_newly_made_up_where_nothing_is_counts_as_a_loss_and_is_paired():
    nothing = np.nan
    values = {
        ("source", 0): {0: [0.8, nothing, nothing, nothing]},
        ("mmacts", 0): {1: [0.8, 0.0, nothing, nothing]},
        ("random", 0): {1: [0.9, 0.0, 0.0, nothing]},
    }
    cases = measures.with_ways(case_rows(values))
    table = measures.with_ways(rows({key: {n: 0.5 for n in curve} for key, curve in values.items()}))
    harm = measures.harm(table, cases).set_index("way")
    assert harm["worse_cases"].to_dict() == {"mmacts": 1 / 4, "random": 2 / 4}
    pairs = paired(measures.case_values(cases), ["case"], "value", ["mmacts", "random"])
    assert pairs.to_numpy().tolist() == [[0.8, 0.9], [0.0, 0.0], [1.0, 0.0]]  # of the last one nobody says anything


def test_a_class_that_is_rightly_not_found_counts_as_a_hit_in_every_metric_and_what_was_not_measured_does_not():
    values = {("source", 0): {0: [0.6, 0.6]}, ("mmacts", 0): {1: [0.7, 0.7]}}
    tumour = measures.with_ways(case_rows(values)).assign(surface_dice=[np.nan, 0.5, 0.6, 0.5])
    oedema = tumour.assign(
        **{"class": "oedema", "dice": [np.nan, 0.5, 0.0, 0.5], "surface_dice": [np.nan, 0.5, 0, 0.5]}
    )
    cases = pd.concat([tumour, oedema], ignore_index=True)
    assert measures.case_values(cases)["value"].tolist() == pytest.approx([0.8, 0.55, 0.35, 0.6])
    assert measures.case_values(cases, "surface_dice")["value"].tolist() == pytest.approx([1.0, 0.5, 0.3, 0.5])


def test_the_certificate_holds_means_over_runs_and_an_absent_class_that_nobody_predicts_counts_as_right():
    values = {("source", 0): {0: [0.4, 0.4]}, ("mmacts", 0): {1: [0.3, 0.7]}, ("mmacts", 1): {1: [0.2, 0.4]}}
    cases = measures.with_ways(case_rows(values)).rename(columns={"dice": "iou"})
    assert measures.certificate(cases).empty
    cases["source_distance"] = [0, 0, 0.2, 0.4, 0.3, np.nan]
    cases.loc[5, ["iou", "source_distance"]] = [np.nan, 0.6]
    (row,) = measures.certificate(cases).to_dict("records")
    assert (row["way"], row["labels"], row["runs"]) == ("mmacts", 1, 2)
    assert row["bound"] == pytest.approx((0.3 + 0.45) / 2)
    assert row["difference"] == pytest.approx((0.1 + 0.2) / 2)  # the means of -0.1 and 0.3, of -0.2 and 0.6
    assert row["share"] == pytest.approx(0.15 / 0.375)


def test_without_the_references_the_rest_is_still_there():
    table = measures.with_ways(rows({("random", 0): {1: 0.5, 2: 0.6}}))
    assert measures.per_run(table)["area"].iloc[0] == pytest.approx(0.55)
    assert np.isnan(measures.overview(table)["gap"].iloc[0])


def test_selected_pseudo_labels_are_compared_with_the_others_run_by_run():
    judged = [
        ("a", 1, True, 0.9),
        ("a", 1, False, 0.5),
        ("a", 1, False, 0.3),
        ("b", 1, True, 0.4),
        ("b", 1, False, 0.6),
    ]
    judged += [("a", 2, True, 0.8), ("b", 2, True, 0.9), ("b", 2, False, 0.7), ("b", 2, False, None)]
    table = pd.DataFrame(judged, columns=["run", "labels", "reliable", "dice"]).assign(way="assft")
    found = measures.selection(table).set_index("labels")
    assert found.loc[1, ["runs", "selected", "unselected", "higher"]].tolist() == pytest.approx([2, 0.65, 0.5, 0.5])
    assert found.loc[1, "difference_std"] == pytest.approx(np.std([0.5, -0.2], ddof=1))
    assert found.loc[2, ["runs", "difference", "higher"]].tolist() == pytest.approx([1, 0.2, 1])


@pytest.mark.parametrize("share", [[0.5], [0.6, 0.9, 1.0], [0.01], [1.0]])
@pytest.mark.parametrize("rate", [0.0, 1.0, 5.0])
def test_foreground_efficiency_is_found_where_most_of_the_foreground_was_outlined_at_once(share, rate):
    share = np.array(share)
    source, full = np.full(len(share), 0.5), np.full(len(share), 0.9)
    values = full - (full - source) * np.exp(-rate * share)
    assert measures.foreground_rate(share, values, source, full) == pytest.approx(rate, abs=1e-3)
    assert measures.foreground_rate(share, source - 0.1, source, full) == 0
