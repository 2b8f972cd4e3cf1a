"""Through the real commands, with a tiny network: without a label, with labels, after a training."""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
import pandas as pd
import pytest
from full_disk import files_up_to
from tiny_rounds import copy_of, make_once, plan_another, start, trained

from nnunet_active.cli.main import main
from nnunet_active.data.partly_labelled import read_label_map
from nnunet_active.training.comparison_table import COLUMNS, read_comparison


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_once(tmp_path_factory.mktemp("made"), labelled=4, unlabelled=3)


@pytest.fixture
def target(made, nnunet_folders):
    return copy_of(made, nnunet_folders)


def forecast(capsys, *flags: str) -> dict:
    assert main(["forecast", "-d", "902", "-device", "cpu", "--json", *flags]) == 0
    return json.loads(capsys.readouterr().out)


def write_comparison(checkpoint, kind: str, source: float, adapted: float, cases: list[str]) -> None:
    rows = [
        (kind, 1, 1, 1, model, model, case, "reference", label, dice + 0.01 * i)
        for model, dice in (("source", source), ("adapted", adapted))
        for i, case in enumerate(cases)
        for label in ("one", "two")
    ]
    pd.DataFrame(rows, columns=COLUMNS).to_csv(checkpoint.parent / "comparison.csv", index=False)


def test_another_configuration_than_the_campaigns_is_refused(target, capsys):
    start()
    assert main(["forecast", "-d", "902", "-device", "cpu", "-c", "2d"]) == 2
    assert "is for -c 3d_fullres, not 2d" in capsys.readouterr().err


def test_before_a_campaign_the_cases_are_ranked_and_no_dice_is_claimed(target, capsys):
    content = forecast(capsys, "-c", "3d_fullres")
    assert sorted(content["cases"]) == ["case_4", "case_5", "case_6"]
    expected = [case["expected"] for case in content["cases"].values()]
    assert expected == sorted(expected) and all(0 <= value <= 1 for value in expected)
    assert not content["expected_dice"]["calibrated"] and content["expected_dice"]["low"] is None
    assert content["judged_by"] == [] and content["verdict"] == "too early to say"
    assert content["predicted_now"] == 3
    assert not list(target.preprocessed.glob("active/fold_*"))
    assert main(["forecast", "-d", "902", "-c", "3d_fullres", "-device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "is not known yet" in out and "no adapted network has been trained yet" in out
    assert "the order counts, the numbers are guesses" in out


def test_a_forecast_that_the_disk_cannot_take_is_shown(target, capsys):
    campaign = start()
    forecast(capsys)
    before = (campaign.folder / "forecast" / "forecast.json").read_bytes()
    with files_up_to(len(before) // 2):
        assert main(["forecast", "-d", "902", "-device", "cpu"]) == 1
    shown = capsys.readouterr()
    assert "case_4" in shown.out and "forecast.json: File too large" in shown.err
    assert (campaign.folder / "forecast" / "forecast.json").read_bytes() == before


def test_labels_calibrate_the_source_network_and_a_second_forecast_predicts_nothing(target, capsys):
    campaign = start()
    first = forecast(capsys)
    assert first["judged_by"] == campaign.labelled() == ["case_0", "case_1", "case_2", "case_3"]
    overall = first["expected_dice"]
    assert overall["calibrated"] and overall["labels"] == 4
    assert overall["low"] <= overall["mean"] <= overall["high"]
    assert first["predicted_now"] == 7
    again = forecast(capsys)
    assert again["predicted_now"] == 0
    assert {**again, "predicted_now": 7} == first
    assert main(["status", "-d", "902"]) == 0
    assert "Expected mean Dice of the unlabelled cases" in capsys.readouterr().out
    assert main(["next", "-d", "902"]) == 0
    assert "Expected mean Dice of the unlabelled cases" in capsys.readouterr().out


def name_labels(file, labels, target) -> None:
    """The rows are of the labels as they are."""
    rows = read_comparison(file).replace({"label": {"one": labels[0], "two": labels[1]}})
    for case in set(rows["case"]):
        label = np.ascontiguousarray(read_label_map(target.store.folder, case)[0])
        digest = hashlib.blake2b(label.tobytes(), digest_size=8).hexdigest()
        rows.loc[rows["case"] == case, "reference"] = digest
    rows.to_csv(file, index=False)


def test_an_adapted_network_is_judged_by_what_its_training_measured(target, capsys):
    start()
    checkpoint = trained(target, labelled=["case_0", "case_1", "case_2", "case_3"])
    content = forecast(capsys)
    assert content["trainer"] == "nnUNetTrainerActive" and content["judged_by"] == []
    assert content["verdict"] == "too early to say" and not content["expected_dice"]["calibrated"]
    labels = list(content["classes"])
    write_comparison(checkpoint, "prequential", 0.5, 0.7, ["case_0", "case_1", "case_2"])
    file = checkpoint.parent / "comparison.csv"
    name_labels(file, labels, target)
    content = forecast(capsys)
    assert content["judged_by"] == ["case_0", "case_1", "case_2"]
    assert content["verdict"] == "label on" and content["gain"]["gain"] == pytest.approx(0.2)
    assert content["expected_dice"]["calibrated"] and 0.3 < content["expected_dice"]["mean"] < 1
    write_comparison(checkpoint, "cross_fit", 0.7, 0.5, ["case_0", "case_1", "case_2"])
    name_labels(file, labels, target)
    content = forecast(capsys)
    assert content["verdict"] == "stop"
    assert any(sentence.startswith("Stop: the next labels will not pay.") for sentence in content["sentences"])


def test_the_next_network_is_compared_with_that_of_the_last_forecast(target, capsys):
    start()
    forecast(capsys)
    trained(target, labelled=["case_0", "case_1", "case_2", "case_3"], seed=11)
    content = forecast(capsys)
    assert 0 < content["next_gain_at_most"] <= 1
    assert any("can have changed by at most" in sentence for sentence in content["sentences"])
    assert not math.isnan(content["next_gain_at_most"])


def test_labels_that_the_network_has_not_seen_calibrate_the_uncertainty_maps_of_the_hand_off(target, capsys):
    start(strategy="random", budget=1)
    assert main(["select", "-d", "902", "-n", "1", "-device", "cpu", "-o", str(target.root / "before")]) == 0
    assert "are calibrated" not in capsys.readouterr().out
    content = forecast(capsys)
    assert content["temperature"] != 1
    again = forecast(capsys)
    assert again["temperature"] == content["temperature"]
    assert main(["select", "-d", "902", "-n", "1", "--more", "-device", "cpu", "-o", str(target.root / "after")]) == 0
    out = capsys.readouterr().out
    assert f"a temperature of {content['temperature']:.2f}" in out


def test_a_trainer_that_has_trained_nothing_is_one_line(target, capsys):
    start()
    trained(target, labelled=["case_0"])
    assert main(["forecast", "-d", "902", "-device", "cpu", "-tr", "nnUNetTrainerMmActS"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "trained: nnUNetTrainerActive" in err


def test_without_a_campaign_one_of_several_configurations_has_to_be_named(target, capsys):
    plan_another(target)
    assert main(["forecast", "-d", "902", "-device", "cpu"]) == 2
    assert "name the configuration with -c" in capsys.readouterr().err
