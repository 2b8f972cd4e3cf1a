from __future__ import annotations

import pandas as pd
import pytest
from test_explanation import of_one_round

from nnunet_active.rounds.explanation import explain_case
from nnunet_active.rounds.explanation_words import format_explanation

DRAWN = pd.DataFrame(
    {
        "mean_entropy": [0.4, 0.3, 0.2, 0.1],
        "foreground_voxels": [10.0, 40.0, 20.0, 0.0],
        "component_predicted_classes": [1.0, 1.0, 1.0, 0.0],
        "component_probability": [1 / 3, 1 / 2, 1 / 3, 0.0],
        "utility": [1.9, 1.8, 1.7, 0.6],
    },
    index=list("abcd"),
)


def told(tmp_path, case: str, table: pd.DataFrame = DRAWN, **more) -> str:
    steps = [table["utility"].tolist(), [float("nan"), *table["utility"].tolist()[1:]]]
    return format_explanation(explain_case(of_one_round(tmp_path, table, steps, ["a", "b"], more), case))


@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_of_drawn_cases_nothing_speaks_for_one_and_neither_the_probability_nor_a_shared_value_has_a_rank(
    tmp_path, case
):
    text = told(tmp_path, case, drawn=True)
    assert "Chance decides: the cases are drawn." in text and "most" not in text.lower()
    places = [line for line in text.splitlines() if line.strip().startswith(("predicted_classes 1", "probability 0."))]
    assert len(places) == 2 and not any("highest" in line or "rank" in line for line in places)
    assert "chosen" not in places[1]
    assert "mean_entropy" in text and ("highest of 4" in text or "rank" in text)  # of what is not drawn


def test_a_case_in_which_nothing_is_predicted_is_said_not_to_be_drawn_and_how_to_ask_for_it(tmp_path):
    text = told(tmp_path, "d", drawn=True)
    assert "It cannot be drawn: nothing is predicted in it; --must-include asks for it." in text
    assert "Chance decides" not in text


def test_where_cases_with_a_prediction_could_not_be_drawn_either_chance_decides(tmp_path):
    table = DRAWN.assign(component_probability=[1.0, 1.0, 0.0, 0.0])  # e.g. those of one cluster at a time
    assert "Chance decides" in told(tmp_path, "d", table, drawn=True)


@pytest.mark.parametrize(("shared", "named"), [(3, "u"), (2, "classes")])
def test_a_value_that_most_cases_share_does_not_speak_for_one(tmp_path, shared, named):
    table = pd.DataFrame(
        {
            "component_classes": [2.0] * shared + [1.0] * (4 - shared),
            "component_u": [0.8, 0.9, 0.1, 0.4],
            "utility": [4.0, 3.0, 2.0, 1.0],
        },
        index=list("abcd"),
    )
    reason = next(line for line in told(tmp_path, "a", table).splitlines() if "Most for it" in line)
    assert f"({named}, " in reason


def test_of_a_single_candidate_each_number_is_the_only_one(tmp_path):
    table = DRAWN.iloc[:1].drop(columns=["component_probability", "component_predicted_classes"])
    campaign = of_one_round(tmp_path, table, [[1.9]], ["a"])
    assert "mean_entropy 0.4 (the only one)" in format_explanation(explain_case(campaign, "a"))
