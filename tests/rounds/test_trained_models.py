from __future__ import annotations

import os
import time
from datetime import datetime

import pytest
from tiny_rounds import request, start, trained
from tiny_target import NAME

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.returned.ingest import ingest
from nnunet_active.rounds.trained_models import covered_folds, find_trainings, missed_labels, trainings_of
from nnunet_active.util.log import silent

NOW = time.time()
LATER = NOW + 3600  # than whatever a test does, also where the tests before it took long


def labelled_campaign(*cases: str, time: float | None = None) -> Campaign:
    campaign = start()
    request(campaign, *cases)
    with campaign.lock():
        for case in cases:
            if time is not None:
                stamp = datetime.fromtimestamp(time).isoformat(timespec="seconds")
                campaign.record_label(case, {"time": stamp, "corrections": 0})
        campaign.mark_labelled(cases)
    return campaign


def test_the_newest_training_comes_first_and_other_plans_do_not_count(target):
    trained(target, "nnUNetTrainerActive", ["case_0"], saved=NOW - 100)
    trained(target, "nnUNetTrainerMmActS", ["case_0"], saved=NOW - 50)
    (target.results / "Dataset902_TinyTarget" / "nnUNetTrainer__nnUNetPlans__3d_fullres" / "fold_0").mkdir(parents=True)
    found = find_trainings(target.results, "Dataset902_TinyTarget", "nnUNetActivePlans", "3d_fullres", ["0"])
    assert [one.trainer for one in found] == ["nnUNetTrainerMmActS", "nnUNetTrainerActive"]
    assert all(one.finished and not one.resumable and one.labelled == ("case_0",) for one in found)


def test_a_training_that_was_stopped_can_be_resumed_unless_a_newer_final_checkpoint_is_in_the_way(target):
    campaign = labelled_campaign("case_1")
    trained(target, labelled=["case_0"], file="checkpoint_latest.pth")
    (one,) = trainings_of(campaign, target.results)
    assert not one.finished and one.resumable
    for saved, expected in (
        (time.time() + 500, [(True, False), (False, False)]),
        (NOW - 500, [(False, True), (True, False)]),  # a kill came before it made way: --c sees to that
    ):
        trained(target, labelled=["case_0"], saved=saved)
        assert [(one.finished, one.resumable) for one in trainings_of(campaign, target.results)] == expected


def test_a_model_that_made_way_for_a_training_that_goes_on_still_counts(target):
    campaign = labelled_campaign("case_1")
    trained(target, labelled=["case_0"], file="checkpoint_previous.pth", saved=NOW - 500)
    trained(target, labelled=["case_0"], file="checkpoint_latest.pth")
    assert [(one.finished, one.resumable) for one in trainings_of(campaign, target.results)] == [
        (False, True),
        (True, False),
    ]


def test_our_trainers_record_says_which_labels_are_missing(target):
    campaign = labelled_campaign("case_1", "case_2")
    trained(target, labelled=["case_0", "case_1"])
    (one,) = trainings_of(campaign, target.results)
    assert missed_labels(campaign, one).missing == ("case_2",)
    trained(target, labelled=["case_0", "case_1", "case_2"])
    assert missed_labels(campaign, trainings_of(campaign, target.results)[0]).missing == ()


def test_a_model_that_knows_labels_this_campaign_has_not_revealed_is_another_campaigns(target):
    campaign = labelled_campaign("case_1")
    trained(target, labelled=["case_0", "case_4"])
    assert trainings_of(campaign, target.results) == []


def test_a_training_of_the_campaign_before_a_restart_is_not_this_ones_though_it_knows_the_same_labels(target):
    campaign = labelled_campaign("case_1")
    trained(target, labelled=["case_0", "case_1"], campaign="2020-01-01T00:00:00.000000+00:00")
    assert trainings_of(campaign, target.results) == []
    trained(target, labelled=["case_0", "case_1"], campaign=campaign.begun)
    assert len(trainings_of(campaign, target.results)) == 1


def test_a_stock_training_from_before_the_campaign_is_not_its_own(target):
    campaign = labelled_campaign("case_1")
    trained(target, "nnUNetTrainer", saved=NOW - 10_000)
    assert trainings_of(campaign, target.results) == []


def test_a_stock_training_that_began_after_the_last_label_is_taken_to_know_it_and_that_is_said(target):
    campaign = labelled_campaign("case_1", time=LATER - 1000)
    trained(target, "nnUNetTrainer", begun=LATER + 10, saved=LATER + 20)
    verdict = missed_labels(campaign, trainings_of(campaign, target.results)[0])
    assert verdict.missing == () and "nnUNetTrainer keeps no record of its cases" in verdict.note


@pytest.mark.parametrize("came", [LATER + 15, LATER + 100], ids=["while it trained", "after it"])
def test_a_stock_training_that_began_before_a_label_may_lack_it(target, came):
    campaign = labelled_campaign("case_1", "case_2", time=LATER - 1000)
    with campaign.lock():
        stamp = datetime.fromtimestamp(came).isoformat(timespec="seconds")
        campaign.record_label("case_2", {"time": stamp, "corrections": 0})
    trained(target, "nnUNetTrainer", begun=LATER + 10, saved=LATER + 20)
    verdict = missed_labels(campaign, trainings_of(campaign, target.results)[0])
    assert verdict.missing == ("case_2",) and "before the label of case_2 came" in verdict.note


def test_a_label_that_was_corrected_since_has_to_be_learnt_again(target):
    campaign = labelled_campaign("case_1", time=NOW - 1000)
    trained(target, labelled=["case_0", "case_1"], saved=NOW)
    assert missed_labels(campaign, trainings_of(campaign, target.results)[0]).missing == ()
    with campaign.lock():
        stamp = datetime.fromtimestamp(NOW + 100).isoformat(timespec="seconds")
        campaign.record_label("case_1", {"time": stamp, "corrections": 1})
    verdict = missed_labels(campaign, trainings_of(campaign, target.results)[0])
    assert verdict.missing == ("case_1",) and "corrected" in verdict.note


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="needs time zones of the system")
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
def test_labels_that_a_machine_in_another_zone_took_back_came_when_they_came(target, monkeypatch, zone):
    campaign = start()
    request(campaign, "case_1")
    monkeypatch.setenv("TZ", "UTC")  # as containers run
    time.tzset()
    target.label("case_1", 1)
    ingest(NAME, "0", log=silent)
    try:
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        campaign = Campaign.open(target.preprocessed, "0")
        for begun, missing in ((-1800, ("case_1",)), (1800, ())):
            trained(target, "nnUNetTrainer", begun=time.time() + begun, saved=LATER)
            assert missed_labels(campaign, trainings_of(campaign, target.results)[0]).missing == missing
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_data_set_that_was_copied_without_its_times_keeps_its_trainings(target):
    campaign = labelled_campaign("case_1")
    trained(target, "nnUNetTrainer", begun=LATER - 20, saved=LATER)
    for file in target.preprocessed.rglob("*"):
        os.utime(file, (LATER + 900, LATER + 900))
    assert [one.trainer for one in trainings_of(campaign, target.results)] == ["nnUNetTrainer"]


def test_a_model_of_before_the_campaign_that_was_copied_without_its_times_is_still_not_the_campaigns(target):
    campaign = labelled_campaign("case_1")
    trained(target, "nnUNetTrainer", begun=NOW - 9000, ended=NOW - 5000, saved=LATER)
    assert trainings_of(campaign, target.results) == []


def test_a_correction_is_noticed_also_where_the_model_was_copied_without_its_times(target):
    campaign = labelled_campaign("case_1", time=NOW - 1000)
    trained(target, labelled=["case_0", "case_1"], ended=NOW, saved=LATER)
    with campaign.lock():
        stamp = datetime.fromtimestamp(NOW + 100).isoformat(timespec="seconds")
        campaign.record_label("case_1", {"time": stamp, "corrections": 1})
    assert missed_labels(campaign, trainings_of(campaign, target.results)[0]).missing == ("case_1",)


def test_a_checkpoint_that_cannot_be_read_is_not_taken_for_a_model(target):
    campaign = labelled_campaign("case_1")
    checkpoint = trained(target, labelled=["case_0", "case_1"])
    checkpoint.write_bytes(checkpoint.read_bytes()[:2000])
    (one,) = trainings_of(campaign, target.results)
    verdict = missed_labels(campaign, one)
    assert one.problem and set(verdict.missing) == {"case_0", "case_1"} and "not known" in verdict.note


def test_with_cross_validation_every_fold_trains_on_the_other_folds_cases(target):
    campaign = start(folds=2, budget=4)
    assert covered_folds(campaign) == ["0"]  # one labelled case: the second fold has none yet
    request(campaign, "case_1", "case_2")
    with campaign.lock():
        campaign.mark_labelled(["case_1", "case_2"])
    assert covered_folds(campaign) == ["0", "1"]
    from nnunet_active.rounds.trained_models import labels_to_train_on

    own, other = (labels_to_train_on(campaign, fold) for fold in "01")
    assert sorted(own + other) == ["case_0", "case_1", "case_2"]
    trained(target, labelled=other, fold="1")
    (one,) = trainings_of(campaign, target.results)
    assert one.fold == "1" and missed_labels(campaign, one).missing == ()
