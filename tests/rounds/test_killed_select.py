"""A select that is killed between its round and the words about it is repeated, not followed by another round."""

from __future__ import annotations

import threading

import pytest
from tiny_rounds import copy_of, make_once
from tiny_target import NAME

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.rounds.between_rounds import SelectResult, select
from nnunet_active.rounds.target_preparation import SelectOptions
from nnunet_active.util.errors import CampaignInUse
from nnunet_active.util.lock import hold
from nnunet_active.util.log import silent


def options(**more) -> SelectOptions:
    return SelectOptions(NAME, **{"configuration": "3d_fullres", "processes": 1, "n": 1, "strategy": "random", **more})


def killed(result: SelectResult) -> None:
    """What happens to a command that dies before anybody reads what it says."""
    raise KeyboardInterrupt


def rounds(target) -> list[tuple[str, ...]]:
    return [one.requested for one in Campaign.open(target.preprocessed, 0).adopt().rounds]


def test_a_further_round_that_nobody_saw_is_shown_again(target):
    select(options(), log=silent)
    with pytest.raises(KeyboardInterrupt):
        select(options(), more=True, log=silent, show=killed)
    made = rounds(target)
    assert len(made) == 2
    again = select(options(), more=True, log=silent)
    assert again.outcome == "waiting" and again.query.requested == made[1] and rounds(target) == made
    assert select(options(), more=True, log=silent).outcome == "asked" and len(rounds(target)) == 3


def test_so_is_one_that_was_not_even_entered_into_the_campaign(target):
    select(options(), log=silent)
    file = target.preprocessed / "active" / "fold_0" / "campaign.json"
    before = file.read_bytes()
    select(options(), more=True, log=silent)
    file.write_bytes(before)  # the kill came between the round's folder and the entry
    assert select(options(), more=True, log=silent).outcome == "waiting" and len(rounds(target)) == 2


def test_in_a_simulation_as_well(tmp_path_factory, nnunet_folders):
    target = copy_of(make_once(tmp_path_factory.mktemp("labelled"), 6, 0), nnunet_folders)
    with pytest.raises(KeyboardInterrupt):
        select(options(), log=silent, show=killed)
    made = rounds(target)
    again = select(options(), log=silent)
    assert again.outcome == "simulated" and again.query.requested == made[0] and rounds(target) == made
    assert len(select(options(), log=silent).query.requested) == 1 and len(rounds(target)) == 2


def test_a_first_call_beside_another_one_hears_who_is_at_work(target):
    with hold(target.preprocessed / "active" / "fold_0"), pytest.raises(CampaignInUse, match="is in use by process"):
        select(options(), log=silent)
    assert not (target.preprocessed / "active" / "fold_0" / "campaign.json").exists()


def test_a_first_call_that_another_one_overtook_goes_on_with_its_campaign(target):
    """While this one preprocesses, another one asks: the round is that one's, and nothing is asked twice."""
    overtaken = threading.Event()

    def overtake(text: str) -> None:
        if not overtaken.is_set():
            overtaken.set()
            assert select(options(), log=silent).outcome == "asked"

    (target.raw / "imagesTr" / "case_2_0002.nii.gz").write_bytes(b"damaged")  # so that there is something to tell of
    late = select(options(), log=overtake)
    assert overtaken.is_set() and late.outcome == "waiting" and len(rounds(target)) == 1
