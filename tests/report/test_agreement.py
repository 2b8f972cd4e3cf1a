from __future__ import annotations

import time

import pytest
from report_campaign import make_setting

from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.report.agreement import agreement_of_labels

COLOURS = {"oedema": "#e64b35", "core": "#009e73"}


@pytest.fixture
def campaign(nnunet_folders):
    return make_setting(nnunet_folders).campaign


def test_labels_are_listed_in_the_order_in_which_they_came_in(campaign):
    facts = {
        "time": "2026-04-01T09:30:00",
        "dice": {"oedema": 0.25, "core": 0.5},
        "volume_predicted_mm3": {"oedema": 2000.0, "core": 10.0},
        "volume_label_mm3": {"oedema": 1000.0, "core": 20.0},
        "changed_voxels": 5,
        "corrections": 0,
    }
    campaign.record_label("case_2", facts)
    content = agreement_of_labels(campaign, COLOURS)
    assert [(row["case"], row["round"], row["time"]) for row in content["rows"]] == [
        ("case_2", 2, "2026-04-01 09:30"),
        ("case_0", 1, "2026-05-01 10:00"),
    ]
    assert content["rows"][0]["classes"] == [
        {"name": "oedema", "dice": 0.25, "predicted": 2.0, "label": 1.0},
        {"name": "core", "dice": 0.5, "predicted": 0.01, "label": 0.02},
    ]
    assert content["rows"][1]["classes"][1]["dice"] is None and content["rows"][1]["corrections"] == 1
    assert content["means"] == {"oedema": 0.5, "core": 0.5}
    assert "<svg" in content["dice_svg"] and "<svg" in content["volume_svg"] and content["unit"] == "cm³"


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="needs time zones of the system")
def test_times_with_and_without_a_zone_stand_in_their_order_on_the_readers_clock(campaign, monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        campaign.record_label("case_0", {"time": "2026-05-01T12:30:00"})  # as earlier versions wrote it
        campaign.record_label("case_2", {"time": "2026-05-01T10:45:00+00:00"})
        rows = agreement_of_labels(campaign, COLOURS)["rows"]
        assert [(row["case"], row["time"]) for row in rows] == [
            ("case_0", "2026-05-01 12:30"),
            ("case_2", "2026-05-01 12:45"),
        ]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_volumes_of_labelled_slices_say_that_they_are_of_these_slices_alone(campaign, nnunet_folders):
    assert agreement_of_labels(campaign, COLOURS)["unit"] == "cm³"
    campaign.mark_labelled(["case_0"], slices={"case_0": SliceRequest("z", (2,))})
    content = agreement_of_labels(campaign, COLOURS)
    assert content["unit"] == "cm³ in the asked slices" and content["rows"][0]["classes"][0]["label"] == 4.0


def test_without_labels_there_is_nothing_to_draw(nnunet_folders):
    content = agreement_of_labels(make_setting(nnunet_folders, rounds=0).campaign, COLOURS)
    assert content["rows"] == [] and "dice_svg" not in content and "volume_svg" not in content


def test_a_label_whose_prediction_is_not_known_is_listed_without_a_dice(nnunet_folders):
    campaign = make_setting(nnunet_folders, rounds=0).campaign
    facts = {
        "time": "2026",
        "dice": {},
        "volume_predicted_mm3": {},
        "volume_label_mm3": {"core": 7.0},
        "changed_voxels": None,
    }
    campaign.record_label("x", facts)
    content = agreement_of_labels(campaign, COLOURS, metric=False)
    (row,) = content["rows"]
    assert row["round"] is None and row["classes"] == [{"name": "core", "dice": None, "predicted": None, "label": 7.0}]
    assert content["means"] == {} and "dice_svg" not in content and content["unit"] == "pixels"
