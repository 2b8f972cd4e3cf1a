from __future__ import annotations

import pytest
from report_campaign import add_round, make_setting

from nnunet_active.campaign.slice_request import SliceRequest
from nnunet_active.report.report_page import write_report
from nnunet_active.report.slice_table import slice_table
from nnunet_active.report.standing import standing
from nnunet_active.rounds.explanation import explain_choice
from nnunet_active.rounds.explanation_words import choice_lines
from nnunet_active.rounds.round_table import Query, expected_minutes


@pytest.fixture
def setting(nnunet_folders):
    """Two rounds of slices: of the first case one of two slices is labelled."""
    setting = make_setting(nnunet_folders, rounds=0, unit="slice", budget=8, query_size=3, per_case=2)
    add_round(setting, ["case_0", "case_1"], slices={"case_0": [2, 5], "case_1": [4]})
    setting.campaign.mark_labelled(["case_0"], slices={"case_0": SliceRequest("z", (2,))})
    return setting


def table(setting) -> dict:
    return slice_table(setting.campaign, Query.of_round(setting.campaign.rounds[0]))


def test_every_slice_has_its_number_what_is_predicted_in_it_and_whether_it_is_labelled(setting):
    rows = table(setting)["rows"]
    assert [(row["case"], row["slice"], row["foreground"], row["difficulty"], row["state"]) for row in rows] == [
        ("case_0", "3 along z", "42", "0.25", "labelled"),
        ("case_0", "6 along z", "45", "0.25", "waiting"),
        ("case_1", "5 along z", "44", "0.25", "waiting"),
    ]
    assert {row["extent"] for row in rows} == {"2 to 7 of 8"}
    setting.campaign.decline(["case_1"], "blurred")
    assert table(setting)["rows"][-1]["state"] == "declined"


def test_whole_cases_have_no_table_of_slices(nnunet_folders):
    campaign = make_setting(nnunet_folders).campaign
    assert slice_table(campaign, Query.of_round(campaign.rounds[0])) == {"why": "", "rows": []}


def test_the_page_shows_the_slices_the_rule_the_minutes_and_counts_slices(setting, tmp_path):
    text = write_report(setting.workspace, setting.results, tmp_path / "report.html").read_text()
    assert '<td data-value="3">3 along z</td>' in text and "the most difficult slice of each is asked for." in text
    assert "Labelling will take about 7 minutes: 2 for each of 2 cases, 1 for each of 3 slices." in text
    assert "3 of 8 slices of the budget were asked for" in text and "1 labelled case, 1 slice of them" in text
    assert "Label slices 3, 6 along z (axial), counted from 1." in text and "worth looking" not in text
    assert "The pictures show slices that are asked for" in text and "white lines" not in text
    assert 'class="mark"' not in text and "axial slice 6 of case case_0" in text
    content = standing(setting.workspace)
    assert (content["asked"], content["unit"], content["slices"]) == (3, "slice", 1)


def test_the_choice_is_explained_in_words(setting):
    query = Query.of_round(setting.campaign.rounds[0])
    lines = choice_lines("case_1", explain_choice(query, "case_1"))
    assert any("the most difficult slice of each is asked for" in line for line in lines)
    assert "    5: 44 predicted foreground voxels, difficulty 0.25 nats" in lines
    assert expected_minutes(query).startswith("Labelling will take about 7 minutes")
