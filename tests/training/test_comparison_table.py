from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nnunet_active.training.comparison_table import (
    ADAPTED,
    COLUMNS,
    FILE,
    HELD_OUT,
    PREQUENTIAL,
    SOURCE,
    gain_of,
    is_of_campaign,
    note_campaign,
    of_source,
)
from nnunet_active.util.moments import now_in_utc, seconds_of

NAN = float("nan")


def table(dice: dict[tuple[str, str], tuple[float, float]]) -> pd.DataFrame:
    """(case, label) -> Dice of the source and of the adapted network."""
    rows = [
        {"model": model, "case": case, "label": label, "dice": value}
        for (case, label), values in dice.items()
        for model, value in zip((SOURCE, ADAPTED), values, strict=True)
    ]
    return pd.DataFrame(rows)


def test_the_gain_is_that_of_the_mean_over_cases_of_the_mean_over_labels():
    gain = gain_of(table({("a", "x"): (0.2, 0.6), ("a", "y"): (0.4, 0.6), ("b", "x"): (0.9, 0.8)}), HELD_OUT)
    assert (gain.cases, gain.worse) == (2, 1)
    assert gain.source == pytest.approx((0.3 + 0.9) / 2)
    assert gain.adapted == pytest.approx((0.6 + 0.8) / 2)
    assert not gain.is_worse  # two cases are too few to be sure
    assert "only 2 cases" in gain.lines()[-1]


def test_a_single_case_is_told_of_in_the_singular():
    for kind, said in ((HELD_OUT, "on 1 held-out case:"), (PREQUENTIAL, "on 1 case before it was trained on:")):
        lines = gain_of(table({("a", "x"): (0.5, 0.6)}), kind).lines()
        assert said in lines[0] and "(only 1 case)" in lines[-1]


def test_the_bound_is_that_of_a_one_sided_paired_t_test():
    rng = np.random.default_rng(0)
    source = rng.uniform(0.3, 0.6, 9)
    adapted = source + rng.normal(0.05, 0.05, 9)
    gain = gain_of(table({(f"c{i}", "x"): pair for i, pair in enumerate(zip(source, adapted, strict=True))}), HELD_OUT)
    interval = stats.ttest_rel(adapted, source, alternative="greater").confidence_interval(0.95)
    assert gain.bound == pytest.approx(interval.low)


def test_a_worse_network_is_called_worse_and_a_better_one_is_not():
    worse = gain_of(table({(case, "x"): (0.5, 0.4) for case in "abcd"}), HELD_OUT)
    assert worse.is_worse
    assert "WARNING: on these cases the adapted network is worse" in worse.lines()[1]
    better = gain_of(table({(case, "x"): (0.5, 0.6 + i / 100) for i, case in enumerate("abcd")}), HELD_OUT)
    assert len(better.lines()) == 1
    assert "0.5000 -> 0.6150 (+0.1150; worse in 0 of 4)" in better.lines()[0]


def test_a_label_that_is_lost_is_named_though_the_mean_gains():
    dice = {(case, "x"): (0.5, 0.9) for case in "abc"} | {(case, "rare"): (0.4, 0.1) for case in "abc"}
    gain = gain_of(table(dice), HELD_OUT)
    assert not gain.is_worse
    assert any("worse in rare: mean Dice -0.3000" in line for line in gain.lines())


def test_what_is_neither_there_nor_found_does_not_count_and_a_false_alarm_does():
    gain = gain_of(table({("a", "x"): (NAN, NAN), ("a", "y"): (0.5, 0.5), ("b", "x"): (NAN, 0.0)}), HELD_OUT)
    assert (gain.source, gain.adapted) == (pytest.approx(0.75), pytest.approx(0.25))
    assert gain.worse == 1


def test_only_cases_of_both_networks_count_and_none_is_said_to_be_unknown():
    rows = table({("a", "x"): (0.5, 0.6)})
    assert (
        gain_of(rows[rows["model"] == SOURCE], PREQUENTIAL)
        .lines()[0]
        .startswith("WARNING: this network was not compared")
    )
    assert gain_of(pd.DataFrame(columns=COLUMNS), PREQUENTIAL).cases == 0


def test_rows_beside_which_no_campaign_is_noted_are_of_the_campaign_in_which_they_were_written(tmp_path):
    begun = now_in_utc()
    assert is_of_campaign(tmp_path, begun)  # nothing was measured
    file = tmp_path / FILE
    file.write_text("")
    assert is_of_campaign(tmp_path, begun) and is_of_campaign(tmp_path, "")
    os.utime(file, (time := seconds_of(begun) - 60, time))
    assert not is_of_campaign(tmp_path, begun) and is_of_campaign(tmp_path, "")
    note_campaign(tmp_path, begun)
    assert is_of_campaign(tmp_path, begun) and not is_of_campaign(tmp_path, "")


def test_cases_that_were_compared_with_another_source_network_are_left_out_kind_by_kind():
    dice = {("a", "x"): (0.2, 0.6), ("b", "x"): (0.3, 0.7)}
    old = table(dice).assign(kind=HELD_OUT, network=["another", "p", "another", "p"])
    new = table(dice).assign(kind=PREQUENTIAL, network=["this", "q", "this", "q"])
    rows = pd.concat([old, new], ignore_index=True)
    for source in (None, "this"):
        pd.testing.assert_frame_equal(of_source(rows, source), new)
    pd.testing.assert_frame_equal(of_source(rows, "another"), old)
    nothing = of_source(rows.iloc[:0])
    assert nothing.empty and list(nothing.columns) == list(rows.columns)
