from __future__ import annotations

import pytest
from tiny_rounds import request, start
from tiny_target import NAME

from nnunet_active.rounds.round_choice import allow, candidates_of, open_or_start
from nnunet_active.rounds.target_preparation import SelectOptions, prepare
from nnunet_active.util.errors import CampaignError, EmptyPool


def prepared(**more):
    return prepare(SelectOptions(NAME, **{"configuration": "3d_fullres", "processes": 1, "n": 2, **more}))


def quiet(text: str) -> None:
    pass


def test_a_new_campaigns_budget_is_its_first_round_and_its_training_asks_for_nothing(target):
    campaign = open_or_start(prepared(strategy="random", seed=4), log=quiet)
    settings = campaign.settings
    assert (settings.budget, settings.query_size, settings.strategy, settings.seed) == (2, 2, "random", 4)
    assert campaign.is_open_ended and campaign.asks_a_person
    request(campaign, "case_1", "case_2")
    assert campaign.exhausted and not campaign.query_due(0) and not campaign.query_due(40)


def test_in_memory_only_nothing_is_written(target):
    before = sorted(target.preprocessed.rglob("*"))
    assert open_or_start(prepared(), save=False, log=quiet).settings.budget == 2
    assert sorted(target.preprocessed.rglob("*")) == before


def test_the_budget_grows_by_what_is_lacking_and_a_repetition_adds_nothing(target):
    campaign = start(budget=3, query_size=3)
    request(campaign, "case_1", "case_2")
    with campaign.lock():
        for _ in range(2):
            allow(campaign, 2)
            assert campaign.budget == 4 and campaign.budget_left() == 2
        campaign.decline(["case_2"])
        allow(campaign, 3)
    assert campaign.budget == 4 and campaign.budget_left() == 3


def test_the_candidates_are_those_nobody_has_asked_for_and_whose_images_are_there(target):
    campaign = start()
    request(campaign, "case_1")
    for file in (target.raw / "imagesTr").glob("case_2_*"):
        file.unlink()
    assert candidates_of(prepared(exclude=("case_3",))) == ["case_4", "case_5"]
    with pytest.raises(EmptyPool, match="No unlabelled case"):
        candidates_of(prepared(exclude=("case_3", "case_4", "case_5")))


def test_a_case_that_waits_is_declined_and_not_excluded(target):
    campaign = start()
    request(campaign, "case_1")
    with pytest.raises(CampaignError, match="decline it with nnunet_active ingest --decline case_1"):
        candidates_of(prepared(exclude=("case_1",)))
    with pytest.raises(CampaignError, match="it was asked for already"):
        candidates_of(prepared(must_include=("case_1",)))


def test_a_scan_that_came_after_the_patients_were_named_is_told_of_once(target):
    table = {f"case_{i}": f"p{i // 2}" for i in range(5)}
    start(groups={"table": table})
    said: list[str] = []
    open_or_start(prepared(), log=said.append)
    (warning,) = said
    assert "--groups does not say whose case_5 is; such a case counts as the only one of its patient" in warning


def test_a_campaign_that_begins_with_patients_tells_of_the_others_once(target):
    said: list[str] = []
    open_or_start(prepared(settings={"groups": {"table": {"case_0": "p", "case_1": "p"}}}), log=said.append)
    assert sum("--groups does not say whose" in line for line in said) == 1
