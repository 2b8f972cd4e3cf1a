"""Which runs a benchmark has, and how they are called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nnunet_active.benchmark.configuration import Arm, Configuration, Recipe, parse_arm, read_configuration
from nnunet_active.benchmark.plan import Fold, RunSpec, plan_runs
from nnunet_active.errors import ActiveError, CampaignError, MissingInput

FOLDS = [Fold(0, tuple("abcdef"), tuple("xy")), Fold(1, tuple("abcxy"), tuple("def"))]


def configuration(**more) -> Configuration:
    content = {"dataset": "Dataset901_X", "configuration": "2d", "arms": (Arm("random"), Arm("entropy"))}
    return Configuration(**{**content, **more})


def test_every_arm_recipe_fold_and_seed_is_a_run_and_the_references_come_with_them():
    recipes = (Recipe(), Recipe("small steps", lr=1e-4))
    runs = plan_runs(configuration(seeds=(0, 1, 2), recipes=recipes), FOLDS)
    arms = [run.arm for run in runs]
    assert arms.count("random") == arms.count("entropy") == arms.count("all labels") == 2 * 2 * 3
    assert arms.count("source") == 2 and arms[0] == "source"
    assert len({run.identifier for run in runs}) == len(runs)


def test_all_strategies_are_run_with_a_seed_before_the_next_seed():
    seeds = [run.seed for run in plan_runs(configuration(all_labels=False), FOLDS) if run.arm != "source"]
    assert seeds == sorted(seeds)


def test_a_run_is_the_same_after_a_round_trip_through_json():
    for run in plan_runs(configuration(), FOLDS):
        again = RunSpec.from_json(json.loads(json.dumps(run.to_json())))
        assert again == run and again.identifier == run.identifier


def test_a_run_keeps_its_name_when_arms_and_seeds_are_added():
    few = {run.identifier for run in plan_runs(configuration(seeds=(0,)), FOLDS)}
    more = configuration(seeds=(0, 1), arms=(Arm("random"), Arm("entropy"), Arm("coreset")))
    assert few <= {run.identifier for run in plan_runs(more, FOLDS)}


def test_the_training_is_one_stride_for_every_query_unless_its_length_is_given():
    (run,) = [
        r
        for r in plan_runs(configuration(budget=3, query_size=2, stride=5, seeds=(0,)), FOLDS[:1])
        if r.arm == "random"
    ]
    assert run.settings["epochs"] == 10
    (run,) = [r for r in plan_runs(configuration(epochs=30, seeds=(0,)), FOLDS[:1]) if r.arm == "random"]
    assert run.settings["epochs"] == 30


def test_a_budget_beyond_the_pool_is_refused():
    with pytest.raises(CampaignError, match="--budget 6 is more than the 5 labelled cases that fold 1"):
        plan_runs(configuration(budget=6), FOLDS)


def test_shorthands_are_read_and_are_the_arms_names():
    arm = parse_arm("assft:one_off:pseudo:combine=product")
    assert (arm.strategy, arm.one_off, arm.pseudo_labels, arm.options) == ("assft", True, {}, {"combine": "product"})
    assert parse_arm(arm.name) == arm


@pytest.mark.parametrize("text", ["nonsense", "random:twice", "assft:no_such_option=1"])
def test_an_unknown_strategy_part_or_option_shows_at_once(text: str):
    with pytest.raises(ActiveError):
        parse_arm(text)


def test_a_file_and_flags_together(tmp_path: Path):
    file = tmp_path / "benchmark.json"
    file.write_text(
        json.dumps({"dataset": "Dataset901_X", "configuration": "2d", "arms": ["random"], "recipes": ["gentle"]})
    )
    read = read_configuration(file, budget=5)
    assert (read.arms, read.budget, read.recipes[0].name) == ((Arm("random"),), 5, "gentle")
    assert read.recipes[0].fine_tuning
    file.write_text(json.dumps(read.to_json()))
    assert read_configuration(file) == read


@pytest.mark.parametrize("content", ["{", '{"arms": ["random"]}', '{"arms": ["random"], "budgte": 3}'])
def test_a_file_that_cannot_be_used_is_one_sentence(tmp_path: Path, content: str):
    file = tmp_path / "benchmark.json"
    file.write_text(content)
    with pytest.raises(CampaignError):
        read_configuration(file)
    with pytest.raises(MissingInput):
        read_configuration(tmp_path / "none.json")


@pytest.mark.parametrize("more", [{"arms": (Arm("random"), Arm("random"))}, {"seeds": ()}, {"splits": 1}])
def test_settings_that_make_no_sense_are_refused(more: dict):
    with pytest.raises(CampaignError):
        configuration(**more)
    with pytest.raises(CampaignError, match="name of a reference"):
        Arm("random", name="source")
