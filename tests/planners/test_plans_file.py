from __future__ import annotations

import json

import pytest
from tiny_rounds import request, start
from tiny_source import plans
from tiny_target import PLANS, make_target

from nnunet_active.planners.plans_file import merge_plans, reader_in_use, what_is_replaced
from nnunet_active.util.errors import ActiveError


def planned(name: str, **changes) -> dict:
    return {**plans((name,)), "source_models": {name: {}}, **changes}


def test_new_plans_are_joined_and_not_changed(tmp_path):
    one, two = planned("2d"), planned("3d_fullres")
    merged = merge_plans(tmp_path / "none.json", [one, two])
    assert list(merged["configurations"]) == ["2d", "3d_fullres"] == list(merged["source_models"])
    assert list(one["configurations"]) == ["2d"]


def test_statistics_matter_only_where_they_are_read(tmp_path):
    statistics = {"foreground_intensity_properties_per_channel": {"0": {"mean": 5.0}}}
    one, two = planned("2d"), planned("3d_fullres", **statistics)
    merge_plans(tmp_path / "none.json", [one, two])
    two["configurations"]["3d_fullres"]["normalization_schemes"] = ["CTNormalization"] * 3
    with pytest.raises(ActiveError, match="differ in foreground_intensity_properties_per_channel"):
        merge_plans(tmp_path / "none.json", [one, two])


def test_a_file_with_only_the_configuration_that_is_planned_again_is_replaced_whole(tmp_path):
    file = tmp_path / "plans.json"
    file.write_text(json.dumps(planned("2d", transpose_forward=[1, 0, 2])))
    assert merge_plans(file, [planned("2d")]) == planned("2d")


def test_preprocessed_cases_keep_their_reader_and_without_any_it_is_chosen_anew(tmp_path):
    file = tmp_path / "plans.json"
    assert reader_in_use(file) is None
    made = planned("2d", image_reader_writer="NibabelIO")
    file.write_text(json.dumps(made))
    assert reader_in_use(file) is None
    folder = tmp_path / f"{made['configurations']['2d']['data_identifier']}_pool"
    folder.mkdir()
    (folder / "a.pkl").touch()
    assert reader_in_use(file) == "NibabelIO"


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "plans.json").write_text("{")
    with pytest.raises(ActiveError, match=r"plans\.json is not valid JSON"):
        merge_plans(tmp_path / "plans.json", [planned("2d")])


def test_what_new_plans_replace_is_named_also_the_rounds_that_are_open(nnunet_folders):
    target = make_target(nnunet_folders, labelled=1, unlabelled=3)
    file = target.preprocessed / f"{PLANS}.json"
    plans_now = json.loads(file.read_text())
    (name,) = plans_now["source_models"]
    other = {**plans_now, "source_models": {name: {**plans_now["source_models"][name], "weights": "others"}}}
    assert what_is_replaced(file, plans_now) == what_is_replaced(file.with_name("none.json"), other) == []
    (said,) = what_is_replaced(file, other)
    assert f"source model of {name} so far" in said and "is replaced" in said
    campaign = start()
    assert what_is_replaced(file, other) == [said]  # nobody waits
    request(campaign, "case_1", "case_2")
    _, waiting = what_is_replaced(file, other)
    assert "Fold 0 waits for 2 label(s)" in waiting and "case_1, case_2" in waiting and "--restart" in waiting
    (campaign.folder / "campaign.json").write_text("{")
    assert what_is_replaced(file, other) == [said]
