from __future__ import annotations

import numpy as np
import pytest
from report_campaign import add_round, make_setting
from tiny_campaign import edit
from tiny_rounds import mark_drawn

from nnunet_active.report.ranking import NEXT_BEST, as_text, ranking
from nnunet_active.rounds.round_table import Query


@pytest.fixture
def setting(nnunet_folders):
    return make_setting(nnunet_folders)


def table(setting, number=1, **more):
    one = setting.campaign.rounds[number - 1]
    return ranking(setting.campaign, one, Query.of_round(one), **more)


def test_the_chosen_cases_come_first_and_every_row_says_where_its_case_stands(setting):
    rows = table(setting)["rows"]
    assert [(row["case"], row["choice"], row["status"]) for row in rows] == [
        ("case_0", 1, "labelled"),
        ("case_1", 2, "declined"),
        ("case_2", None, "waiting"),
        ("case_3", None, "waiting"),
        ("case_4", None, "in the pool"),
        ("case_5", None, "in the pool"),
    ]
    assert [row["open_first"] for row in rows] == ["FLAIR", "FLAIR", "", "", "", ""]


def test_bars_run_from_zero_or_the_lowest_to_the_highest_and_a_missing_value_has_none(setting):
    content = table(setting)
    cells = {
        column["title"]: [row["cells"][i] for row in content["rows"]] for i, column in enumerate(content["columns"])
    }
    assert list(cells) == ["utility", "u", "rho", "predicted cm³"]
    assert [cell["bar"] for cell in cells["utility"]] == pytest.approx(
        [100 * u / 9 for u in np.linspace(9, 1, 6)], abs=0.1
    )
    assert cells["rho"][0] == {"text": "", "value": None, "bar": None}
    assert [cell["bar"] for cell in cells["rho"][1:]] == pytest.approx([0, 25, 50, 75, 100])
    assert cells["predicted cm³"][0]["text"] == "0.6" and cells["predicted cm³"][0]["value"] == 600
    assert content["columns"][1]["meaning"].startswith("uncertainty")


def test_of_a_draw_no_utility_is_shown_since_that_would_be_chance(setting):
    mark_drawn(setting.campaign.rounds[0])
    content = table(setting)
    assert [column["title"] for column in content["columns"]] == ["u", "rho", "predicted cm³"]
    assert [len(row["cells"]) for row in content["rows"]] == [3] * 6


def test_pictures_without_millimetres_show_voxels(setting):
    assert table(setting, metric=False)["columns"][-1]["title"] == "foreground voxels"


def test_a_long_pool_is_cut_and_the_rest_is_counted(setting, monkeypatch):
    monkeypatch.setattr("nnunet_active.report.ranking.NEXT_BEST", 1)
    content = table(setting)
    assert [row["case"] for row in content["rows"]] == ["case_0", "case_1", "case_2"]
    assert content["left_out"] == 3 and content["candidates"] == 6 and NEXT_BEST > 1
    assert content["rows"][0]["cells"][0]["bar"] == 100


def test_the_whole_table_has_every_column_of_the_scores(setting):
    content = table(setting)["table"]
    assert content["columns"] == list(setting.campaign.rounds[0].scores().columns)
    assert content["rows"][0][0] == "case_0" and len(content["rows"][0]) == len(content["columns"]) + 1


def test_a_status_is_known_for_every_kind_of_case(setting):
    campaign = setting.campaign
    campaign.exclude(["case_5"])
    assert campaign.status_of("case_5") == "excluded"
    edit(campaign, val=["case_4"])
    assert campaign.status_of("case_4") == "held out"


def test_names_of_clusters_get_no_bar(setting):
    add_round(setting, ["case_4"])
    one = setting.campaign.rounds[2]
    query = Query.of_round(one)
    query.scores["component_cluster"] = 3.0
    columns = [column["title"] for column in ranking(setting.campaign, one, query)["columns"]]
    cell = ranking(setting.campaign, one, query)["rows"][0]["cells"][columns.index("cluster")]
    assert cell["bar"] is None and cell["text"] == "3"


@pytest.mark.parametrize(
    "value, text",
    [
        (0.0123456, "0.01235"),
        (12345678.0, "12\N{THIN SPACE}345\N{THIN SPACE}678"),
        (15000.5, "15\N{THIN SPACE}000"),
        (7, "7"),
        (None, ""),
        (float("nan"), ""),
        (float("inf"), "inf"),
        ("word", "word"),
        (True, "yes"),
    ],
)
def test_numbers_are_short(value, text):
    assert as_text(value) == text
