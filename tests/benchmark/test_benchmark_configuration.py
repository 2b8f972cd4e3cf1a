"""Arms, recipes and the settings of a benchmark, from shorthands, files and flags."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from nnunet_active.benchmark.configuration import Arm, Configuration, parse_arm, read_configuration
from nnunet_active.campaign.fine_tuning import default_recipe
from nnunet_active.util.errors import ActiveError, CampaignError, MissingInput


def test_shorthands_are_read_and_are_the_arms_names():
    arm = parse_arm("assft:one_off:pseudo:gap=drift")
    assert (arm.strategy, arm.one_off, arm.pseudo_labels, arm.options) == ("assft", True, {}, {"gap": "drift"})
    assert parse_arm(arm.name) == arm


def test_a_strategy_of_a_file_is_an_arm_and_is_found_from_other_folders(tmp_path: Path, monkeypatch):
    text = "from nnunet_active.strategies import ScoreStrategy\n\n\nclass Mine(ScoreStrategy):\n    name = 'mine'\n\n"
    (tmp_path / "mine.py").write_text(f"{text}    def utility(self, pool, rng):\n        return pool.column('x')\n")
    monkeypatch.chdir(tmp_path)
    arm = parse_arm("mine.py:Mine:one_off")
    assert (arm.strategy, arm.one_off) == (f"{tmp_path / 'mine.py'}:Mine", True)
    assert arm.name == "mine.py:Mine:one_off"
    assert parse_arm("mine.py:pseudo").strategy == str(tmp_path / "mine.py")
    inside = parse_arm("per_cluster:member=mine.py:Mine:one_off")
    assert inside.options == {"member": arm.strategy} and inside.one_off
    written = Configuration("Dataset901_X", "2d", (arm, inside)).to_json()
    monkeypatch.chdir("/")
    assert Configuration.from_json(written).arms == (arm, inside)


@pytest.mark.parametrize("text", ["nonsense", "random:twice", "assft:no_such_option=1"])
def test_an_unknown_strategy_part_or_option_shows_at_once(text: str):
    with pytest.raises(ActiveError):
        parse_arm(text)


def test_a_file_and_flags_together(tmp_path: Path):
    file = tmp_path / "benchmark.json"
    file.write_text(
        json.dumps({"dataset": "Dataset901_X", "configuration": "2d", "arms": ["random"], "recipes": ["averaged"]})
    )
    read = read_configuration(file, budget=5)
    assert (read.arms, read.budget, read.recipes[0].name) == ((Arm("random"),), 5, "averaged")
    assert read.recipes[0].fine_tuning
    file.write_text(json.dumps(read.to_json()))
    assert read_configuration(file) == read


@pytest.mark.parametrize("unit", ["case", "slice", "scan"])  # the settings of a run refuse the last one in words
def test_the_recipe_that_nobody_names_is_the_default(unit: str):
    given = Configuration("Dataset901_X", "2d", (Arm("random"),), unit=unit)
    assert [one.name for one in given.recipes] == [default_recipe(unit)]
    assert Configuration.from_json(given.to_json()) == given


def test_a_recipe_takes_settings_in_shorthand_and_is_called_by_it():
    content = {"dataset": "Dataset901_X", "configuration": "2d", "arms": ["random"]}
    names = ["three_quarters", "three_quarters:unlabelled=mix", "plain:interpolation=0.25:ema_epochs=2"]
    read = Configuration.from_json({**content, "recipes": names})
    assert [one.name for one in read.recipes] == names
    assert [one.fine_tuning for one in read.recipes] == [
        {"interpolation": 0.75},
        {"interpolation": 0.75, "unlabelled": "mix"},
        {"interpolation": 0.25, "ema_epochs": 2},
    ]
    assert Configuration.from_json(read.to_json()) == read
    for wrong in ("plain:mix", "plain:unlabelled=mixed", "nonsense:unlabelled=mix"):
        with pytest.raises(CampaignError):
            Configuration.from_json({**content, "recipes": [wrong]})


@pytest.mark.parametrize("content", ["{", '{"arms": ["random"]}', '{"arms": ["random"], "budgte": 3}'])
def test_a_file_that_cannot_be_used_is_one_sentence(tmp_path: Path, content: str):
    file = tmp_path / "benchmark.json"
    file.write_text(content)
    with pytest.raises(CampaignError):
        read_configuration(file)
    with pytest.raises(MissingInput):
        read_configuration(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1], "is no JSON object; it must hold the benchmark's settings by name"),
        (
            {"dataset": "Dataset901_X", "arms": ["random"]},
            "A benchmark needs the setting 'configuration'; name it with -c.",
        ),
        ({"configuration": "2d", "arms": ["random"]}, "A benchmark needs the setting 'dataset'; name it with -d."),
        ({"dataset": "Dataset901_X", "configuration": "2d"}, "needs the setting 'arms'; name it with --strategies."),
        ({"arms": "random"}, "setting 'arms' is 'random'; it must be a list."),
        ({"seeds": 3}, "setting 'seeds' is 3; it must be a list."),
        ({"recipes": None}, "setting 'recipes' is None; it must be a list."),
        ({"arms": [1]}, "An arm is given as 1; it must be a text or a JSON object."),
        ({"arms": [{"options": {}}]}, "An arm needs the setting 'strategy'; name it."),
        ({"recipes": [{"nam": "a"}]}, "A recipe has no setting 'nam'."),
    ],
)
def test_what_has_the_wrong_form_is_one_sentence_without_words_of_python(tmp_path: Path, content, said: str):
    file = tmp_path / "benchmark.json"
    whole = {"dataset": "Dataset901_X", "configuration": "2d", "arms": ["random"]}
    is_whole = isinstance(content, list) or len({*whole} & {*content}) > 1
    file.write_text(json.dumps(content if is_whole else {**whole, **content}))
    with pytest.raises(CampaignError, match=re.escape(said)) as caught:
        read_configuration(file)
    assert "__init__" not in str(caught.value)


@pytest.mark.parametrize("more", [{"arms": (Arm("random"), Arm("random"))}, {"seeds": ()}, {"splits": 1}])
def test_a_benchmark_that_compares_nothing_is_refused(more: dict):
    with pytest.raises(CampaignError):
        Configuration(**{"dataset": "Dataset901_X", "configuration": "2d", "arms": (Arm("random"),), **more})
    with pytest.raises(CampaignError, match="name of a reference"):
        Arm("random", name="source")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"query_size": 0}, "--query-size 0 makes no sense"),
        ({"budget": 0}, "--budget 0 makes no sense"),
        ({"stride": 0}, "--stride 0 makes no sense"),
        ({"epochs": 0}, "--epochs 0 makes no sense"),
        ({"iterations": 2.5}, "--iterations 2.5 makes no sense; it must be a whole number, at least 1"),
        ({"budget": "3"}, "--budget 3 makes no sense; it must be a whole number"),
        ({"threads": 0}, "--threads 0 makes no sense"),
        ({"splits": 1}, "--splits 1 makes no sense; it must be a whole number, at least 2"),
        ({"held_out": -1}, "--held-out -1 makes no sense; it must be a whole number, at least 0"),
        ({"seeds": [-1]}, "--seeds -1 makes no sense"),
        ({"seeds": ["a"]}, "--seeds a makes no sense"),
        ({"folds": [-1]}, "--folds -1 makes no sense"),
        ({"seeds": [1, 2, 1]}, "--seeds 1 2 1 names one twice"),
        ({"folds": [0, 0]}, "--folds 0 0 names one twice"),
        ({"tolerance_mm": 0}, "--tolerance-mm 0 makes no sense; it must be positive and finite"),
        ({"lr": -1.0}, "--lr -1.0 makes no sense"),
    ],
)
def test_numbers_that_make_no_sense_are_one_sentence_that_names_them(more: dict, said: str):
    content = {"dataset": "Dataset901_X", "configuration": "2d", "arms": ["random"]}
    with pytest.raises(CampaignError, match=said):
        Configuration.from_json({**content, **more})


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"dataset": 4}, "dataset"),
        ({"split_file": 4}, "split_file"),
        ({"all_labels": "yes"}, "all_labels"),
        ({"device": 5}, "device"),
        ({"trainer": 7}, "trainer"),
        ({"arms": [{"strategy": 5}]}, "strategy"),
        ({"arms": [{"strategy": "random", "options": []}]}, "options"),
        ({"recipes": [{"name": 3}]}, "name"),
        ({"recipes": [{"name": "mine", "lr": "fast"}]}, "lr"),
        ({"lr": "fast"}, "lr"),
    ],
)
def test_a_setting_of_another_form_is_named_before_anything_is_planned(changes: dict, name: str):
    content = {"dataset": "Dataset901_X", "configuration": "2d", "arms": ["random"], **changes}
    with pytest.raises(CampaignError, match=f"the setting '{name}' in a form that it cannot have"):
        Configuration.from_json(content)
