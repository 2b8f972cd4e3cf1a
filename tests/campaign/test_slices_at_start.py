from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from tiny_dataset import write_image
from tiny_target import NAME, PLANS, SHAPE, make_target, truth

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_round import RoundContent
from nnunet_active.campaign.campaign_start import start_campaign
from nnunet_active.campaign.place import Place
from nnunet_active.campaign.settings import Settings
from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.campaign.slices_at_start import slices_at_start
from nnunet_active.campaign.status import format_status
from nnunet_active.data.ignore_label import declare_ignore_label
from nnunet_active.data.partial_labels import keep_slices
from nnunet_active.query.slice_query import SliceQuery
from nnunet_active.returned.ingest import ingest
from nnunet_active.util.log import silent

IGNORE = 3


@pytest.fixture
def target(nnunet_folders):
    """A whole label, a label of two slices, and two scans without one."""
    target = make_target(nnunet_folders, labelled=2, unlabelled=2)
    declare_ignore_label(target.raw, target.preprocessed)
    label = keep_slices(truth(1), 0, [4, 9], IGNORE)
    write_image(target.raw / "labelsTr" / "case_1.nii.gz", label, spacing=(1.5, 1.5, 1.5))
    target.preprocess()
    return target


def begin(fold: str = "all", **more) -> Campaign:
    how = {"unit": "slice", "budget": 6, "query_size": 3, "stride": 5, "epochs": 20, "strategy": "random", **more}
    return start_campaign(Place.of(NAME, "3d_fullres", PLANS, fold), Settings(**how), "folder", silent)


def test_a_campaign_knows_the_slices_that_are_labelled_where_it_begins_and_may_ask_for_others(target):
    campaign = begin()
    assert campaign.known_slices() == {"case_1": SliceRequest("z", (4, 9))}
    assert campaign.initial == ("case_0",) and campaign.labelled() == ["case_0", "case_1"]
    assert campaign.labelled_from_start == 2
    assert "2 labelled (2 from the start)" in format_status(campaign)
    cases = target.store.identifiers()
    assert campaign.pool(cases) == ["case_1", "case_2", "case_3"] and campaign.spent() == 0
    query = SliceQuery(Campaign.open(target.preprocessed, "all"), target.store)
    assert query.open_slices("case_1") == SHAPE[0] - 2
    assert query.candidates(campaign.pool(cases), 2) == (["case_2", "case_3"], 1, ())


def test_they_are_known_from_the_first_epoch_on_also_where_others_are_asked_for_later(target):
    campaign = begin()
    table = pd.DataFrame({"x": 1.0}, index=["case_1"])
    utilities = pd.DataFrame(np.ones((1, 1)), columns=["case_1"])
    with campaign.lock():
        later = {"case_1": SliceRequest("z", (6,))}
        campaign.append_round(RoundContent(["case_1"], table, utilities, table, slices=later), epoch=5)
        campaign.mark_labelled(["case_1"])
    assert campaign.labelled(0) == ["case_0", "case_1"]
    assert campaign.known_slices(0) == {"case_1": SliceRequest("z", (4, 9))}
    assert campaign.known_slices(5) == {"case_1": SliceRequest("z", (4, 6, 9))} and campaign.spent() == 1


def test_looking_for_labels_finds_nothing_to_complain_about(target):
    begin()
    report = ingest(NAME, "all", log=silent)
    assert not report.refused and not report.corrected and not report.waiting
    assert Campaign.open(target.preprocessed, "all").known_slices() == {"case_1": SliceRequest("z", (4, 9))}


def test_a_label_of_some_slices_that_nobody_asked_for_is_no_whole_one(target):
    begin()
    label = keep_slices(truth(2), 0, [5, 8], IGNORE)
    write_image(target.raw / "labelsTr" / "case_2.nii.gz", label, spacing=(1.5, 1.5, 1.5))
    assert "case_2" in ingest(NAME, "all", log=silent).taken
    campaign = Campaign.open(target.preprocessed, "all")
    assert campaign.known_slices()["case_2"] == SliceRequest("z", (5, 8))
    assert "case_2" in campaign.pool(target.store.identifiers()) and "case_2" in campaign.labelled()
    assert campaign.labelled_from_start == 2
    assert not ingest(NAME, "all", log=silent).taken


def test_the_axis_is_that_of_the_campaign_and_what_is_not_preprocessed_is_passed_over(target):
    place = Place.of(NAME, "3d_fullres", PLANS, "all")
    (found,) = slices_at_start(place, ["case_0", "case_1", "case_9"], "x").values()
    assert found == SliceRequest("x", tuple(range(SHAPE[2])))
    assert slices_at_start(place, ["case_0", "case_9"], "auto") == {}
    assert slices_at_start(Place.of(NAME, "3d_fullres", "nnUNetNoSuchPlans", "all"), ["case_1"], "auto") == {}


def test_whole_cases_are_counted_as_before(target):
    campaign = begin(unit="case")
    assert campaign.initial == ("case_0", "case_1") and campaign.known_slices() == {}
    assert campaign.pool(target.store.identifiers()) == ["case_2", "case_3"]
