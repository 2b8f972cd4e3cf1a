from __future__ import annotations

import json
from dataclasses import replace

import pandas as pd
import pytest
from tiny_rounds import copy_of, make_once, request, start
from tiny_target import make_target

from nnunet_active.campaign.fine_tuning import recipe
from nnunet_active.data.ignore_label import declare_ignore_label
from nnunet_active.rounds.round_table import Query, expected_minutes, few_at_once, format_query, query_json


@pytest.fixture(scope="module")
def query(tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    made = make_once(root)
    with pytest.MonkeyPatch.context() as patch:
        copy = tmp_path_factory.mktemp("copy")
        for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            patch.setenv(variable, str(copy / variable))
        copy_of(made, copy)
        return Query.of_round(request(start(), "case_2", "case_4", others=["case_1", "case_3", "case_5"]))


def test_the_chosen_cases_come_first_then_the_best_of_the_others(query):
    lines = format_query(query).splitlines()
    assert lines[0] == "Round 1, strategy 'entropy': 2 of 5 candidates."
    assert lines[1].split() == ["chosen", "case", "utility", "rank", "entropy", "open", "first"]
    rows = [line.split() for line in lines[2:]]
    assert rows[0] == ["1", "case_2", "0.9", "1", "0.9", "FLAIR"] and rows[1][:2] == ["2", "case_4"]
    assert [row[0] for row in rows[2:]] == ["case_1", "case_3", "case_5"]


def test_the_minutes_of_one_case_and_of_several_are_told_in_good_english(query):
    def minutes(*slices: int) -> str:
        choice = {f"case_{i}": {"axis": "z", "slices": list(range(n))} for i, n in enumerate(slices)}
        return expected_minutes(replace(query, selection={"slice_choice": choice}))

    assert minutes(1) == "Labelling will take about 3 minutes: 2 for the case, 1 for the slice."
    assert minutes(2) == "Labelling will take about 4 minutes: 2 for the case, 1 for each of 2 slices."
    assert minutes(2, 1) == "Labelling will take about 7 minutes: 2 for each of 2 cases, 1 for each of 3 slices."


@pytest.mark.parametrize(
    ("settings", "requested", "said"),
    [
        ({"fine_tuning": recipe("guarded")}, ["case_1"], True),
        ({"fine_tuning": recipe("guarded")}, ["case_1", "case_2"], False),  # with the labelled case_0, three
        ({"fine_tuning": recipe("guarded"), "unit": "slice"}, ["case_1"], False),
        ({"fine_tuning": recipe("three_quarters")}, ["case_1"], False),
        ({}, ["case_1"], False),
    ],
)
def test_a_first_query_of_one_or_two_whole_scans_is_told_what_gained_more(target, settings, requested, said):
    if "unit" in settings:
        declare_ignore_label(target.raw, target.preprocessed)
    campaign = start(**settings)
    first = Query.of_round(request(campaign, *requested))
    advice = "3 at once (-n 3), the recipe guarded:unlabelled=mix (which trains longer), or slices of many scans"
    assert (advice in few_at_once(first, campaign)) == said
    campaign.mark_labelled(requested)
    assert few_at_once(Query.of_round(request(campaign, "case_3")), campaign) == ""


@pytest.mark.parametrize(
    ("asked", "strategy", "said"),
    [
        (["case_0"], "random", True),
        (["case_0", "case_1"], "random", False),
        (["case_0"], "entropy", False),  # not drawn from the pool
    ],
)
def test_with_the_unlabelled_pool_two_whole_scans_are_enough(nnunet_folders, asked, strategy, said):
    make_target(nnunet_folders, labelled=0, unlabelled=3)
    campaign = start(fine_tuning=recipe("guarded:unlabelled=mix"), strategy=strategy)
    told = few_at_once(Query.of_round(request(campaign, *asked)), campaign)
    assert ("2 at once (-n 2) or slices of many scans (--unit slice) gained more" in told) == said == bool(told)


def test_a_long_table_is_cut_and_says_so(query):
    text = format_query(query, shown=1)
    assert "case_1" in text and "case_3" not in text and "... and 2 more; all are in scores.csv" in text


@pytest.mark.parametrize(
    ("metric", "shown"), [(True, {"cm3": "1.234", "pixels": None}), (False, {"pixels": "617", "cm3": None})]
)
def test_volumes_are_in_cm3_only_where_images_have_a_spacing(query, metric, shown):
    known = query.scores.assign(foreground_mm3=1234.0, foreground_voxels=617.0)
    head, first, *_ = format_query(replace(query, scores=known), metric).splitlines()[1:]
    for name, number in shown.items():
        assert (name in head.split()) == (number in first.split()) == (number is not None)


def test_what_was_drawn_shows_its_probability_and_no_rank_since_that_would_be_chance():
    columns = {"utility": [0.3, 2.0, 0.1], "component_probability": [0.25, 0.5, 0.3]}
    scores = pd.DataFrame(columns, index=["case_2", "case_1", "case_3"])
    query = Query(1, "select", ("case_1", "case_2"), {"strategy": "foreground_random"}, scores)
    head, *rows = (line.split() for line in format_query(query).splitlines()[1:])
    assert head == ["chosen", "case", "probability", "open", "first"]
    assert rows == [["1", "case_1", "0.5"], ["2", "case_2", "0.25"], ["case_3", "0.3"]]
    ranked = format_query(replace(query, scores=scores.rename(columns={"component_probability": "component_noise"})))
    assert "utility  rank" in ranked and "each later choice was drawn anew" not in ranked


@pytest.mark.parametrize(("drawn", "there"), [(True, False), (False, True)])
def test_a_round_that_says_it_was_drawn_shows_no_rank_though_no_probability_is_known(query, drawn, there):
    told = replace(query, selection={**query.selection, "drawn": drawn})
    assert ("utility" in format_query(told) and "rank" in format_query(told)) is there and told.chance is drawn


def test_for_scripts_all_candidates_are_there_with_plain_numbers(query):
    content = query_json(query)
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["requested"] == ["case_2", "case_4"] and len(content["candidates"]) == 5
    assert content["candidates"][0] == {
        "case": "case_2",
        "rank": 1,
        "utility": 0.9,
        "scores": {"mean_entropy": 0.9, "entropy": 0.9},
    }
    assert content["open_first"] == {"case_2": "FLAIR", "case_4": "FLAIR"}
