from __future__ import annotations

import pandas as pd
from report_campaign import NAME, make_setting
from tiny_campaign import edit

from nnunet_active import __version__
from nnunet_active.report.details import comparisons, plans_table, settings_table, versions_table


def test_every_setting_is_listed(nnunet_folders):
    campaign = make_setting(nnunet_folders, strategy_options={"a": 1}).campaign
    campaign.extend(2)
    found = dict(settings_table(campaign))
    assert {name.replace("_", " ") for name in campaign.settings.to_json()} <= set(found)
    assert found["dataset"] == NAME and found["budget"] == "5" and found["budget now"] == "7"
    assert found["strategy options"] == '{"a": 1}' and found["pseudo labels"] == "as the trainer has it"


def test_versions_are_those_of_now_and_of_the_campaign(nnunet_folders):
    campaign = edit(make_setting(nnunet_folders).campaign, version="0.0.1")
    found = dict(versions_table(campaign))
    assert found["nnunet_active"] == __version__ and found["campaign begun with nnunet_active"] == "0.0.1"
    assert found["nnunetv2"][0].isdigit() and found["torch"][0].isdigit()


def test_the_plans_say_how_a_case_is_seen(nnunet_folders):
    found = dict(plans_table(make_setting(nnunet_folders).plans, "3d_fullres"))
    assert found["spacing"] == "[3.0, 1.25, 1.25]" and found["batch size"] == "2" and "network" not in found
    plans = {"configurations": {"2d": {"architecture": {"network_class_name": "a.b.PlainConvUNet"}}}}
    assert plans_table(plans, "2d") == [("network", "PlainConvUNet")] and plans_table({}, "2d") == []
    plans["configurations"]["larger"] = {"inherits_from": "2d", "batch_size": 9}
    assert plans_table(plans, "larger") == [("batch size", "9"), ("network", "PlainConvUNet")]


def test_comparisons_of_the_fold_are_shown_as_they_were_written(nnunet_folders):
    setting = make_setting(nnunet_folders)
    folder = setting.results / NAME / "nnUNetTrainerActive__nnUNetActivePlans__3d_fullres"
    for name in ("fold_0", "fold_1"):
        (folder / name).mkdir(parents=True)
        table = pd.DataFrame({"case": ["001", "NA"], "source": [0.5, None], "adapted": [0.751234, 1]})
        table.to_csv(folder / name / "comparison.csv", index=False)
    (content,) = comparisons(setting.campaign, setting.results)
    assert content == {
        "trainer": "nnUNetTrainerActive",
        "columns": ["case", "source", "adapted"],
        "rows": [["001", "0.5", "0.7512"], ["NA", "", "1"]],
    }
    (folder / "fold_0" / "comparison.csv").write_text("")
    assert comparisons(setting.campaign, setting.results) == []
