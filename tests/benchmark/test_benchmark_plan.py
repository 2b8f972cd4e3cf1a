"""Which runs a benchmark has, and how they are called."""

from __future__ import annotations

import json

import pytest

from nnunet_active.benchmark.configuration import Arm, Configuration, Recipe
from nnunet_active.benchmark.plan import Fold, RunSpec, plan_runs
from nnunet_active.campaign.fine_tuning import recipe
from nnunet_active.util.errors import CampaignError

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


def test_held_out_cases_are_drawn_by_the_seed_and_are_neither_asked_for_nor_tested_on():
    runs = plan_runs(
        configuration(held_out=2, seeds=(0, 1, 2), recipes=(Recipe("held_out", recipe("held_out")),)), FOLDS[:1]
    )
    for run in runs:
        assert (
            len(run.val) == 2 and set(run.val) | set(run.train) == set("abcdef") and not set(run.val) & set(run.train)
        )
        assert run.test == ("x", "y")
        assert RunSpec.from_json(run.to_json()) == run
    by_seed = {run.seed: {other.val for other in runs if other.seed == run.seed} for run in runs}
    assert all(len(drawn) == 1 for drawn in by_seed.values())
    assert len(set.union(*by_seed.values())) > 1
    everything = next(run for run in runs if run.arm == "all labels")
    assert everything.settings["budget"] == 4


def test_a_recipe_that_held_out_cases_choose_by_needs_some():
    with pytest.raises(CampaignError, match="set 2 or more aside"):
        configuration(held_out=1, recipes=(Recipe("held_out", recipe("held_out")),))
    with pytest.raises(CampaignError, match="--budget 3 is more than the 2 labelled cases"):
        plan_runs(configuration(held_out=4, budget=3), FOLDS[:1])


def test_a_run_without_held_out_cases_is_called_as_before_there_were_any():
    run = plan_runs(configuration(), FOLDS)[-1]
    assert "val" not in run.to_json()


@pytest.mark.parametrize("unit", ["case", "slice"])
@pytest.mark.parametrize("held_out", [6, 7])
def test_held_out_cases_have_to_leave_some_to_choose_from(held_out: int, unit: str):
    with pytest.raises(CampaignError, match=f"--held-out {held_out} leaves nothing to choose from: fold 0 has 6"):
        plan_runs(configuration(held_out=held_out, unit=unit, budget=1), FOLDS[:1])
