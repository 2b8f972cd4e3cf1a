from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from nnunet_active.forecast.expected_dice import DiceEstimate
from nnunet_active.forecast.outlook import outlook
from nnunet_active.rounds.forecast_record import Moved
from nnunet_active.rounds.forecast_words import forecast_json, forecast_lines
from nnunet_active.rounds.forecasting import Forecast


@pytest.fixture
def forecast() -> Forecast:
    names = [f"case_{i:02d}" for i in range(12)]
    expected = np.linspace(0.2, 0.9, 12)
    cases = pd.DataFrame({"expected": expected, "agreement": 0.9, "confidence": 0.9, "lost": ""}, index=names)
    cases.loc["case_03", "lost"] = "tumour"
    classes = pd.DataFrame({"tumour": expected, "oedema": np.nan}, index=names)
    by_class = {"tumour": DiceEstimate(0.6, 0.5, 0.7, 4, 0.9), "oedema": DiceEstimate(0.8, np.nan, np.nan, 1, 0.8)}
    return Forecast(
        SimpleNamespace(dataset="Dataset902_TinyTarget", configuration="3d_fullres"),
        SimpleNamespace(trainer="nnUNetTrainerActive", fold="0"),
        "digest",
        cases,
        classes,
        DiceEstimate(0.61, 0.5, 0.72, 4, 0.9),
        by_class,
        outlook(np.array([0.1, 0.2, 0.3])),
        ("a", "b", "c", "d"),
        Moved(0.1234, 12, 1),
    )


def test_one_screen_says_how_good_which_fail_and_whether_labels_pay(forecast):
    text = "\n".join(forecast_lines(forecast))
    assert "12 unlabelled cases, predicted by nnUNetTrainerActive, fold 0." in text
    assert "0.61 (90% interval 0.50 to 0.72), from 4 labelled cases" in text
    assert "tumour: 0.60 (90% interval 0.50 to 0.70)" in text and "oedema: not known (a guess: 0.80)" in text
    assert "! case_00  0.20" in text and "! case_03  0.39  no tumour predicted" in text and "  case_09  0.77" in text
    assert "case_10" not in text and "and 2 more" in text
    assert "Label on. On 3 cases" in text and "by at most 0.123; expect no more" in text


def test_without_labels_a_dice_is_called_a_guess(forecast):
    unknown = DiceEstimate(0.9, np.nan, np.nan, 1, 0.9)
    text = "\n".join(
        forecast_lines(
            dataclasses.replace(forecast, overall=unknown, judged=("a", "b", "c"), training=None, moved=None)
        )
    )
    assert "and there is 1. Until then, 0.90 is a guess." in text
    assert "the order counts, the numbers are guesses" in text
    assert "predicted by the source network" in text and "no adapted network has been trained yet" in text


def test_json_has_null_where_nothing_is_known(forecast):
    content = json.loads(json.dumps(forecast_json(forecast), allow_nan=False))
    assert content["cases"]["case_03"]["lost"] == ["tumour"] and content["cases"]["case_00"]["lost"] == []
    assert content["cases"]["case_00"]["classes"] == {"tumour": 0.2, "oedema": None}
    assert content["classes"]["oedema"]["low"] is None and content["gain"]["cases"] == 3
    assert content["verdict"] == "label on" and content["next_gain_at_most"] == 0.1234
    assert len(content["sentences"]) == 3


def test_empty_predictions_are_marked_and_it_is_said_what_they_count(forecast):
    assert "Nothing is predicted" not in "\n".join(forecast_lines(forecast))
    forecast.cases.loc[["case_00", "case_01"], ["confidence", "lost"]] = 0, "tumour"
    lines = forecast_lines(forecast)
    assert "! case_00  0.20  nothing predicted" in lines and "! case_03  0.39  no tumour predicted" in lines
    said = forecast_json(forecast)["sentences"][1]
    assert said in lines and said.startswith("Nothing is predicted in 2 of the 12; a Dice of 0 is assumed there")


def test_a_class_of_which_nothing_is_known_has_no_interval_of_nan(forecast):
    nowhere = dataclasses.replace(
        forecast, by_class={**forecast.by_class, "oedema": DiceEstimate(*[np.nan] * 3, 3, np.nan)}
    )
    assert "  oedema: not known" in forecast_lines(nowhere)
    assert forecast_json(nowhere)["classes"]["oedema"]["calibrated"] is False


def test_nobody_is_told_to_stop_where_the_training_kept_the_source_network(forecast):
    kept = dataclasses.replace(forecast, outlook=outlook(np.empty(0)), moved=None, is_source=True)
    text = "\n".join(forecast_lines(kept))
    assert "kept its weights (alpha 0). The next training judges again." in text and "there are 0" not in text
    assert forecast_json(kept)["verdict"] == "too early to say"
