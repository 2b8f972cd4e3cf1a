from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_campaign import begin

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_round import RoundContent
from nnunet_active.campaign.cross_validation import (
    campaign_for,
    check_can_be_trained,
    check_folds,
    covers,
    switch_on,
)
from nnunet_active.campaign.folds import assign, is_complete, sides
from nnunet_active.campaign.settings import Settings
from nnunet_active.campaign.splits import FILE_NAME
from nnunet_active.util.errors import CampaignError

CASES = [f"case_{i:02d}" for i in range(20)]
quick = settings(max_examples=40, deadline=None)


def create(folder, fold="0", folds=3, initial=(), **how) -> Campaign:
    return begin(folder, fold, Settings(folds=folds, oracle="folder"), initial=initial, **how)


def now(folder) -> list[dict]:
    return json.loads((folder / FILE_NAME).read_text())


@quick
@given(
    st.lists(st.lists(st.sampled_from(CASES), unique=True), max_size=6),
    st.integers(2, 6),
    st.sampled_from(["0", "all"]),
)
def test_a_case_never_changes_its_fold_and_folds_differ_by_one_case_at_most(batches, folds, own):
    fold_of: dict[str, int] = {}
    for batch in batches:
        after = assign(fold_of, batch, folds, own)
        assert {case: after[case] for case in fold_of} == fold_of and set(after) == {*fold_of, *batch}
        fold_of = after
        sizes = [list(fold_of.values()).count(fold) for fold in range(folds)]
        assert max(sizes) - min(sizes) <= 1


def test_the_first_cases_go_to_the_other_folds_so_that_the_asking_network_can_be_trained():
    assert assign({}, CASES[:5], 4, "0") == {"case_00": 1, "case_01": 2, "case_02": 3, "case_03": 0, "case_04": 1}
    assert assign({}, CASES[:3], 2, "all") == {"case_00": 0, "case_01": 1, "case_02": 0}
    fold_of = {"a": 1, "b": 0, "c": 1}
    assert sides("bca", fold_of, "1") == (["b"], ["a", "c"])
    assert sides("bca", fold_of, "all") == (["a", "b", "c"], [])
    assert is_complete("ab", fold_of, 2) and not is_complete("ac", fold_of, 2)


def test_a_patients_cases_share_a_fold_whenever_they_come():
    first = assign({}, ["a1", "b1", "a2"], 3, "0", lambda case: case[0])
    assert first["a1"] == first["a2"] != first["b1"]
    later = assign(first, ["b2", "c1"], 3, "0", lambda case: case[0])
    assert later["b2"] == later["b1"] and later["c1"] == 0


@quick
@given(st.lists(st.lists(st.sampled_from(CASES), unique=True, min_size=1), min_size=1, max_size=6), st.integers(2, 5))
def test_the_split_file_is_whole_and_no_case_changes_sides_whatever_the_order_of_the_labels(batches, folds):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as name:
        campaign = create(Path(name), folds=folds)
        known: dict[tuple[int, str], str] = {}
        for batch in batches:
            with campaign.lock():
                campaign.mark_labelled(batch)
            labelled, splits = set(campaign.labelled()), now(Path(name))
            assert len(splits) == (folds if len(labelled) >= folds else 1)
            for fold, entry in enumerate(splits):
                assert entry["train"] and entry["val"]
                if entry["val"] == entry["train"]:
                    assert fold == 0 and len(labelled) < folds
                    sides_now = {case: "train" for case in entry["train"]}
                else:
                    assert set(entry["train"]) | set(entry["val"]) == labelled
                    assert not set(entry["train"]) & set(entry["val"])
                    sides_now = {case: side for side in ("train", "val") for case in entry[side]}
                for case, side in sides_now.items():
                    assert known.setdefault((fold, case), side) == side
            if len(splits) == folds:  # every labelled case validates exactly one fold
                assert sorted(case for entry in splits for case in entry["val"]) == sorted(labelled)


def test_cases_that_are_labelled_from_the_start_have_their_folds_at_once(tmp_path):
    campaign = create(tmp_path, initial=CASES[:3])
    assert campaign.fold_of == {"case_00": 1, "case_01": 2, "case_02": 0}
    with Campaign.open(tmp_path, "0").lock():
        pass
    assert now(tmp_path)[0] == {"train": ["case_00", "case_01"], "val": ["case_02"]}


def test_a_campaign_of_all_writes_the_folds_beside_it(tmp_path):
    campaign = create(tmp_path, "all", 2)
    with campaign.lock():
        campaign.mark_labelled(["a"])
        assert not (tmp_path / FILE_NAME).exists()
        campaign.mark_labelled(["b"])
    assert now(tmp_path) == [{"train": ["b"], "val": ["a"]}, {"train": ["a"], "val": ["b"]}]
    assert campaign_for(tmp_path, 1).fold == "all" and campaign_for(tmp_path, "all").fold == "all"
    assert campaign_for(tmp_path, 2) is None


def test_a_fold_belongs_to_its_own_campaign_or_to_the_one_that_covers_it(tmp_path):
    assert campaign_for(tmp_path, 0) is None
    create(tmp_path, "0", folds=3)
    create(tmp_path, "4", folds=1)
    assert [campaign_for(tmp_path, fold) and campaign_for(tmp_path, fold).fold for fold in (0, "2", 3, 4, "all")] == [
        "0",
        "0",
        None,
        "4",
        None,
    ]
    assert covers(Campaign.open(tmp_path, 0), 2) and not covers(Campaign.open(tmp_path, 4), 2)


def test_a_fold_without_a_case_cannot_be_trained_yet(tmp_path):
    campaign = create(tmp_path, initial=["a", "b"])
    check_can_be_trained(campaign, "0")
    with pytest.raises(CampaignError, match="Fold 1 cannot be trained yet: 2 of the campaign's 3 folds"):
        check_can_be_trained(campaign, "1")
    with campaign.lock():
        campaign.mark_labelled(["c"])
    check_can_be_trained(campaign, "1")


# ---- what is in the way -----------------------------------------------------------------------------------------------------


def test_folds_go_with_fold_0_or_all_only(tmp_path):
    with pytest.raises(CampaignError, match="--folds 5 goes with -f 0 or -f all"):
        check_folds(tmp_path, "1", 5)
    check_folds(tmp_path, "1", 1)
    check_folds(tmp_path, "all", 5)


def test_a_split_file_of_the_users_is_not_overruled(tmp_path):
    (tmp_path / FILE_NAME).write_text(json.dumps([{"train": ["a"], "val": ["b"]}]))
    with pytest.raises(CampaignError, match=r"splits_final\.json defines fold 0 of .*--folds 3 would overrule it"):
        check_folds(tmp_path, "0", 3)
    assert now(tmp_path) == [{"train": ["a"], "val": ["b"]}]


def test_the_splits_that_nnunet_would_make_are_nobodys_wish(tmp_path):
    """They are kept as the definition of all folds where a campaign without folds began before."""
    generated = [{"train": ["a"], "val": ["b"]}, {"train": ["b"], "val": ["a"]}]
    campaign = create(tmp_path, folds=1, val=["b"], other_folds=generated)
    with campaign.lock():
        campaign.mark_labelled(["a"])
    check_folds(tmp_path, "0", 2, generated=generated)
    with pytest.raises(CampaignError, match="defines fold 0"):
        check_folds(tmp_path, "0", 2)


def test_campaigns_do_not_cover_each_others_folds(tmp_path):
    create(tmp_path, "1", folds=1)
    with pytest.raises(CampaignError, match=r"--folds 5 would cover fold 1 .* which has a campaign of its own"):
        check_folds(tmp_path, "0", 5)
    other = tmp_path / "other"
    create(other, "0", folds=5)
    with pytest.raises(CampaignError, match="Fold 3 of other belongs to the campaign of fold 0, which has 5 folds"):
        check_folds(other, "3", 1)
    with pytest.raises(CampaignError, match="would cover fold 0 of other"):
        check_folds(other, "all", 5)
    check_folds(other, "5", 1)
    check_folds(other, "0", 5)  # the same campaign, e.g. before a restart
    third = tmp_path / "third"
    create(third, "all", folds=5)
    with pytest.raises(CampaignError, match="Fold 0 of third belongs to the campaign of fold all"):
        check_folds(third, "0", 5)


# ---- switched on later ------------------------------------------------------------------------------------------------------


def test_folds_can_be_switched_on_once_there_are_labels_and_then_stay(tmp_path):
    campaign = create(tmp_path, folds=1, initial=CASES[:4])
    with campaign.lock():
        assert now(tmp_path) == [{"train": CASES[:4], "val": CASES[:4]}]
        assert switch_on(campaign, 3) == []  # nothing has been trained yet
    reopened = Campaign.open(tmp_path, "0")
    assert reopened.settings.folds == 3 and len(now(tmp_path)) == 3
    before = reopened.fold_of
    with reopened.lock():
        assert switch_on(reopened, 3) == []
        with pytest.raises(CampaignError, match="has 3 folds, and a case never changes its fold"):
            switch_on(reopened, 5)
        reopened.mark_labelled(CASES[4:6])
    assert {case: fold for case, fold in reopened.fold_of.items() if case in before} == before


def test_a_network_that_has_seen_cases_which_validate_it_from_now_on_is_named(tmp_path):
    import pandas as pd

    campaign = create(tmp_path, folds=1, initial=CASES[:3])
    with campaign.lock():
        frame = pd.DataFrame({"a": [1.0]}, index=["case_03"])
        campaign.append_round(RoundContent(["case_03"], frame, frame.T, frame))
        (sentence,) = switch_on(campaign, 3)
    assert sentence.startswith("WARNING: case_02 validate fold 0 from now on") and "train fold 0 anew" in sentence


def test_folds_are_not_switched_on_where_the_user_holds_cases_out(tmp_path):
    campaign = create(tmp_path, folds=1, initial=["a"], val=["b"], split_origin=FILE_NAME)
    with campaign.lock(), pytest.raises(CampaignError, match=r"1 cases are held out in fold 0 \(splits_final\.json\)"):
        switch_on(campaign, 3)
    assert campaign.settings.folds == 1


def test_without_folds_the_campaign_answers_for_its_own_fold_alone(tmp_path):
    campaign = create(tmp_path, "2", folds=1, initial=["a"], val=["v"])
    assert campaign.split_entries() == {2: (["a"], ["v"])}
    assert create(tmp_path, "all", folds=1, initial=["a"]).split_entries() == {}


def test_with_folds_the_cases_of_the_own_fold_are_the_held_out_ones(tmp_path):
    campaign = create(tmp_path, folds=3, initial=["a", "b", "c", "d"])
    assert campaign.held_out() == campaign.split_entries()[0][1] == ["c"]
    assert create(tmp_path / "other", folds=1, initial=["a"], val=["v"]).held_out() == ["v"]
