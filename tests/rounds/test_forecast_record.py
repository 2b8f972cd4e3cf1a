from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from tiny_rounds import start

from nnunet_active.data.cases import open_store
from nnunet_active.query.score_cache import ScoreCache
from nnunet_active.rounds.forecast_record import (
    FORECAST_FILE,
    earlier_networks,
    forecast_folder,
    forecast_sentences,
    moved_since,
    read_forecast,
    write_forecast,
)
from nnunet_active.rounds.trained_models import Training
from nnunet_active.scoring.packed_prediction import pack


def test_there_is_no_forecast_at_first_and_a_damaged_one_is_as_good_as_none(target):
    campaign = start()
    assert read_forecast(campaign) == {} and forecast_sentences(campaign, []) == [] and earlier_networks(campaign) == []
    write_forecast(campaign, {"sentences": ["A word."]}, "a")
    assert forecast_sentences(campaign, []) == ["A word."]
    for damaged in ("{", "[]", '{"sentences": "A word."}', "\x00"):
        (forecast_folder(campaign) / FORECAST_FILE).write_text(damaged)
        assert read_forecast(campaign) == {} and forecast_sentences(campaign, []) == []


def test_networks_are_remembered_in_their_order_and_each_once(target):
    campaign = start()
    for digest in ("a", "b", "a"):
        write_forecast(campaign, {"sentences": []}, digest)
    assert [one["digest"] for one in earlier_networks(campaign)] == ["b", "a"]
    assert {one["labels"] for one in earlier_networks(campaign)} == {len(campaign.labelled())}


def test_labels_that_came_since_make_a_forecast_an_old_one(target):
    campaign = start()
    write_forecast(campaign, {"sentences": ["A word."]}, "a")
    file = forecast_folder(campaign) / FORECAST_FILE
    file.write_text(file.read_text().replace('"labelled": [', '"labelled": ["another", '))
    if '"another"' not in file.read_text():
        pytest.fail("the file lists the labelled cases in another way")
    assert "older than the latest labels" in forecast_sentences(campaign, [])[-1]


def test_a_forecast_from_before_the_latest_training_of_the_fold_speaks_of_another_network_and_is_not_repeated(target):
    campaign = start()
    write_forecast(campaign, {"sentences": ["No adapted network has been trained yet."]}, "a")
    ended = Training("T", "0", target.results / "checkpoint_final.pth", True, False, time.time() + 1)
    assert forecast_sentences(campaign, [replace(ended, saved=1.0), replace(ended, fold="1")]) == [
        "No adapted network has been trained yet."
    ]
    (said,) = forecast_sentences(campaign, [ended])
    assert "older than the latest training" in said


def test_further_slices_of_the_same_cases_make_a_forecast_an_old_one(target, monkeypatch):
    campaign = start()
    write_forecast(campaign, {"sentences": ["A word."]}, "a")
    monkeypatch.setattr(type(campaign), "labels_by_name", lambda self: ["case_0[slice 3 along z]"])
    assert "older than the latest labels" in forecast_sentences(campaign, [])[-1]


def test_predictions_are_compared_with_those_of_the_last_other_network(target, tmp_path):
    store, cache = open_store("Dataset902_TinyTarget", "nnUNetActivePlans", "3d_fullres"), ScoreCache(tmp_path)
    case = store.identifiers()[0]
    maps = {"a": [0, 1, 1, 2], "b": [0, 1, 0, 2]}
    for digest, labels in maps.items():
        packed = pack(np.array(labels).reshape(1, 1, 4))
        cache.add(digest, case, store.image_state(case), {}, {"prediction": packed})
    earlier = [{"digest": "older"}, {"digest": "a", "labels": 2}, {"digest": "b"}]
    found = moved_since(earlier, "b", cache, store, store.identifiers(), 2)
    assert found.distance == pytest.approx(0.25) and (found.cases, found.labels) == (1, 2)
    assert moved_since([{"digest": "b"}], "b", cache, store, store.identifiers(), 2) is None
    assert moved_since([{"digest": "gone"}], "b", cache, store, store.identifiers(), 2) is None
