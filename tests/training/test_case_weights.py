"""How much a case counts: against the formula, from the records of rounds, and on pools whose mean gain is known."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_active.campaign.campaign_round import Round, RoundContent, write_round
from nnunet_active.training.case_weights import CAP, case_weights, rarities_of, weights_of
from nnunet_active.training.guarded_choice import shrunk_gains
from nnunet_active.util.log import silent


def made(folder: Path, number: int, asked: list[str], table: pd.DataFrame, **details) -> Round:
    one = Round(number, 0, tuple(asked), "select", {}, folder / f"round_{number:03d}")
    utilities = pd.DataFrame([table["utility"]])
    write_round(one, RoundContent(asked, table, utilities, pd.DataFrame({"case": asked}), {}, details))
    return one


def strata_table(probability: dict[str, float], cluster: dict[str, int] | None = None) -> pd.DataFrame:
    table = pd.DataFrame({"component_probability": pd.Series(probability), "utility": 0.0})
    return table if cluster is None else table.assign(component_cluster=pd.Series(cluster))


FOUR = {"a": 0.25, "b": 0.25, "c": 0.1, "d": 0.4}


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=12))
def test_weights_have_the_mean_one_and_none_is_more_than_the_cap_allows(rarities):
    weights = weights_of(pd.Series(rarities))
    assert weights.mean() == pytest.approx(1)
    assert weights.max() / weights.min() <= CAP**2 * (1 + 1e-9)
    capped = np.clip(rarities, 1 / CAP, CAP)
    assert weights.to_numpy() == pytest.approx(capped / capped.mean())


@given(st.floats(0.01, 100), st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=1, max_size=9))
def test_where_all_cases_were_drawn_alike_the_gains_are_those_without_weights_to_the_bit(rarity, rows):
    dice = pd.DataFrame(rows, columns=[0.0, 0.25, 0.5, 0.75])
    weights = weights_of(pd.Series(rarity, dice.index))
    assert shrunk_gains(dice, weights).tolist() == shrunk_gains(dice).tolist()


def test_a_rare_pick_stands_for_more_cases_than_a_likely_one(tmp_path):
    one = made(tmp_path, 1, ["c", "d"], strata_table(FOUR))
    assert rarities_of(one) == pytest.approx({"c": 1 / 4 / 0.1, "d": 1 / 3 / 0.4}), "the second draw is among three"
    parts = made(tmp_path, 2, ["c", "d"], strata_table(FOUR, {"a": 0, "b": 0, "c": 1, "d": 1}))
    assert rarities_of(parts) == pytest.approx({"c": 0.5 / 0.1, "d": 0.5 / 0.4})


def test_equal_chances_count_equally_whatever_is_left_to_draw_from(tmp_path):
    chances = {"a": 1 / 3, "b": 1 / 2, "c": 1.0, "another scan of a patient": np.nan}
    one = made(tmp_path, 1, ["a", "b", "c"], strata_table(chances))
    assert rarities_of(one) == pytest.approx(dict.fromkeys("abc", 1.0))


def test_a_case_counts_by_the_round_that_asked_first_and_by_one_where_nothing_is_known(tmp_path):
    rounds = [
        made(tmp_path, 1, ["a"], pd.DataFrame({"utility": 0.0}, index=list("abcd"))),
        made(tmp_path, 2, ["d"], strata_table(FOUR)),
        made(tmp_path, 3, ["d", "c"], strata_table(FOUR | {"d": 0.1})),
        made(tmp_path, 4, ["b"], strata_table(FOUR | {"b": 0.9}), must_include=["b"]),
    ]
    expected = pd.Series({"labelled before": 1.0, "a": 1.0, "b": 1.0, "c": CAP, "d": 0.25 / 0.4})
    found = case_weights(rounds, list(expected.index), silent)
    assert found[expected.index].tolist() == pytest.approx((expected / expected.mean()).tolist())
    assert case_weights(rounds, [], silent).empty


def test_a_damaged_record_is_told_and_its_cases_count_as_any_other(tmp_path):
    one = made(tmp_path, 1, ["c", "d"], strata_table(FOUR))
    (one.folder / "scores.csv").write_text("nothing\n")
    said: list[str] = []
    assert case_weights([one], ["c", "d"], said.append).tolist() == [1.0, 1.0]
    assert len(said) == 1 and "cases of round 1 get no weights of their own" in said[0]


def every_draw(q: np.ndarray, gain: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]]:
    """Bias and root mean square error of the plain mean and of the weighted one, over all draws of one case from each part.

    Args:
        q: (parts, cases), the probability of each case in its part; gain: the same shape.
    """
    parts, size = q.shape
    draws = np.array(list(itertools.product(range(size), repeat=parts)))
    chance = q[np.arange(parts), draws].prod(axis=1)
    drawn = gain[np.arange(parts), draws]
    rarity = 1 / size / q[np.arange(parts), draws]
    weights = np.array([weights_of(pd.Series(row)) for row in rarity])
    found = []
    for mean in (drawn.mean(axis=1), (weights * drawn).sum(axis=1) / weights.sum(axis=1)):
        error = mean - gain.mean()
        found.append((float(chance @ error), float(chance @ error**2) ** 0.5))
    return found[0], found[1]


def typical_gain_more(parts: int, size: int, power: float) -> tuple[np.ndarray, np.ndarray]:
    """As ``strata`` draws: nine tenths by typicality, a tenth by chance; typical cases gain up to 0.2 more."""
    typical = np.tile(np.linspace(0.5, 1, size), (parts, 1))
    q = 0.9 * typical**power / (typical**power).sum(axis=1, keepdims=True) + 0.1 / size
    return q, 0.2 * (typical - typical.mean()) / np.ptp(typical) + 0.02 * np.arange(parts)[:, None]


def test_where_typical_cases_gain_more_the_weighted_mean_is_nearly_unbiased_and_the_plain_mean_is_not():
    plain, weighted = every_draw(*typical_gain_more(parts=4, size=6, power=1))
    assert plain[0] > 0.008 and abs(weighted[0]) < plain[0] / 3


def test_where_the_cap_binds_the_weighted_mean_is_still_nearer_to_the_pools_than_the_plain_one():
    plain, weighted = every_draw(*typical_gain_more(parts=4, size=6, power=4))
    assert plain[0] > 0.03 and abs(weighted[0]) < 0.6 * plain[0]
    assert weighted[1] < 0.95 * plain[1]


def test_equal_chances_cost_nothing():
    q, gain = typical_gain_more(parts=3, size=6, power=0)
    plain, weighted = every_draw(q, gain)
    assert plain == weighted and abs(plain[0]) < 1e-12
