"""Runs with a tiny network through the real trainers: killed, resumed, shared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from killed_process import killed_before_rename, needs_fork
from tiny_benchmark import job_of, tiny_benchmark

from nnunet_active.benchmark.configuration import SOURCE, Arm, Recipe, parse_arm
from nnunet_active.benchmark.execution import execute
from nnunet_active.benchmark.recorded_training import RecordedTraining
from nnunet_active.benchmark.results import judged_rows, pseudo_label_rows, rows_of, write_tables
from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.fine_tuning import recipe
from nnunet_active.strategies.registry import available_strategies
from nnunet_active.util.errors import CampaignError


def outcome(result: dict) -> list:
    """What must not depend on how a run came to its end."""
    return [(one["labelled"], one["requested"], one["weights"], one["cases"]) for one in result["rounds"]]


def user_files(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(f): (f.stat().st_size, f.stat().st_mtime_ns) for f in sorted(folder.rglob("*")) if f.is_file()}


def test_a_run_labels_one_more_case_in_every_round_and_leaves_the_users_folder_as_it_was(nnunet_folders: Path):
    benchmark = tiny_benchmark(nnunet_folders)
    before = user_files(nnunet_folders / "nnUNet_preprocessed")
    job = job_of(benchmark, "entropy")
    result = execute(job)
    assert [len(one["labelled"]) for one in result["rounds"]] == [1, 2]
    assert set(result["rounds"][-1]["labelled"]) <= set(job.spec.train)
    assert {row["case"] for row in result["rounds"][0]["cases"]} == set(job.spec.test)
    assert user_files(nnunet_folders / "nnUNet_preprocessed") == before
    assert list((nnunet_folders / "nnUNet_results").iterdir()) == []


def test_a_finished_run_is_not_done_again(nnunet_folders: Path):
    job = job_of(tiny_benchmark(nnunet_folders), "random")
    result = execute(job)
    shutil.rmtree(job.root / "legs")
    assert execute(job) == json.loads(json.dumps(result))
    assert not (job.root / "legs").exists()


def test_the_source_is_measured_before_any_training(nnunet_folders: Path):
    job = job_of(tiny_benchmark(nnunet_folders), "source")
    (one,) = execute(job)["rounds"]
    assert one["labelled"] == [] and len(one["cases"]) == 2 * len(job.spec.test)
    assert not (job.root / "legs").exists()


def test_runs_that_chose_the_same_cases_train_once(nnunet_folders: Path):
    arms = (Arm("random"), Arm("random", name="the same again"))
    benchmark = tiny_benchmark(nnunet_folders, arms=arms)
    first, second = (execute(job_of(benchmark, arm.name)) for arm in arms)
    assert outcome(second) == outcome(first)
    assert first["seconds"]["trained_here"] > 0
    assert second["seconds"]["trained_here"] == 0 and second["seconds"]["evaluation"] == 0


def test_another_seed_or_recipe_shares_nothing(nnunet_folders: Path):
    benchmark = tiny_benchmark(nnunet_folders, seeds=(0, 1), arms=(Arm("coreset"),))
    weights = [execute(job)["rounds"][0]["weights"] for job in benchmark.open_jobs() if job.spec.arm == "coreset"]
    assert len(set(weights)) == 2


def test_a_run_in_pieces_ends_as_one_in_a_single_piece(nnunet_folders: Path):
    whole = execute(job_of(tiny_benchmark(nnunet_folders, "whole"), "entropy"))
    job = job_of(tiny_benchmark(nnunet_folders, "pieces"), "entropy")
    execute(job)
    job.result_file.unlink()
    shutil.rmtree(job.root / "evaluations")
    shutil.rmtree(job.root / "legs" / whole["rounds"][-1]["leg"])  # as if it had been killed in its second leg
    again = execute(job)
    assert outcome(again) == outcome(whole)


@needs_fork
@pytest.mark.parametrize(("number", "unit"), [(2, "case"), (11, "case"), (20, "case"), (11, "slice")])
def test_a_killed_run_goes_on_to_the_same_end(nnunet_folders: Path, number: int, unit: str):
    whole = execute(job_of(tiny_benchmark(nnunet_folders, "whole", unit=unit), "random"))
    job = job_of(tiny_benchmark(nnunet_folders, "killed", unit=unit), "random")
    assert killed_before_rename(lambda: execute(job), number)
    assert not job.result_file.exists()
    assert outcome(execute(job)) == outcome(whole)


def test_a_one_off_run_has_one_point_at_the_full_budget(nnunet_folders: Path):
    benchmark = tiny_benchmark(nnunet_folders, arms=(Arm("entropy", one_off=True),))
    job = job_of(benchmark, "entropy:one_off")
    (one,) = execute(job)["rounds"]
    assert len(one["labelled"]) == 2 and one["epoch"] == 2
    campaign = Campaign.open(job.folder / "nnUNet_preprocessed" / job.spec.dataset, job.spec.fold)
    assert [entry.epoch for entry in campaign.rounds] == [0]


def test_the_reference_trains_on_all_labels_of_the_fold(nnunet_folders: Path):
    job = job_of(tiny_benchmark(nnunet_folders, all_labels=True), "all labels")
    (one,) = execute(job)["rounds"]
    assert one["labelled"] == list(job.spec.train)


def test_the_learning_rate_of_the_trainer_counts_where_none_is_given(nnunet_folders: Path):
    benchmark = tiny_benchmark(nnunet_folders, lr=None, trainer="nnUNetTrainerActiveAdamW")
    assert execute(job_of(benchmark, "random"))["settings_used"]["initial_lr"] == 1e-3


def test_a_trainer_that_does_not_query_is_refused(nnunet_folders: Path):
    benchmark = tiny_benchmark(nnunet_folders, trainer="nnUNetTrainer")
    with pytest.raises(CampaignError, match="not a trainer that queries"):
        execute(job_of(benchmark, "random"))


def test_pseudo_labels_are_judged_by_the_withheld_labels_and_the_training_is_the_same_without(
    nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch
):
    arms = (Arm("entropy", pseudo_labels={"labelled_fraction": 0.5}),)
    benchmark = tiny_benchmark(nnunet_folders, arms=arms, stride=2)
    job = job_of(benchmark, "entropy:pseudo")
    result = execute(job)
    for one in result["rounds"]:
        judged = {row["case"]: row for row in one["pseudo_labels"]}
        assert set(judged) == set(job.spec.train) - set(one["labelled"])
        assert all(row["dice"] is None or 0 <= row["dice"] <= 1 for row in judged.values())
        assert {type(row["reliable"]) for row in judged.values()} == {bool}
    assert len(pseudo_label_rows(result)) == sum(len(one["pseudo_labels"]) for one in result["rounds"])

    monkeypatch.delattr(RecordedTraining, "on_epoch_start")
    again = tiny_benchmark(nnunet_folders, "unjudged", arms=arms, stride=2)
    unjudged = execute(job_of(again, "entropy:pseudo"))
    assert outcome(unjudged) == outcome(result)
    assert not any(one["pseudo_labels"] for one in unjudged["rounds"])


def test_recipes_that_differ_in_what_predicts_train_alike_and_are_measured_apart(nnunet_folders: Path):
    recipes = (Recipe(), Recipe("near", {"interpolation": 0.05}))
    benchmark = tiny_benchmark(nnunet_folders, recipes=recipes, arms=(Arm("coreset"),), iterations=8, lr=0.1)
    found = {}
    for job in benchmark.open_jobs():
        if job.spec.arm == "coreset":
            found[job.spec.recipe] = execute(job)["rounds"][0]
    assert len({one["weights"] for one in found.values()}) == 1
    assert len({str(one["cases"]) for one in found.values()}) > 1


def test_held_out_cases_choose_the_weights_that_are_measured_and_the_test_cases_have_no_part_in_it(
    nnunet_folders: Path,
):
    how = {"recipes": _recipes("held_out"), "arms": (Arm("random"),), "held_out": 2, "budget": 1}
    benchmark = tiny_benchmark(nnunet_folders, **how)
    job = job_of(benchmark, "random")
    result = execute(job)
    (folder,) = (job.folder / "nnUNet_results").rglob("fold_0")
    rows = pd.read_csv(folder / "comparison.csv", dtype={"case": str})
    assert set(rows["case"]) == set(job.spec.val) and not set(job.spec.val) & set(job.spec.test)
    log = [json.loads(line) for line in (folder / "active_log.jsonl").read_text().splitlines()]
    chosen = {entry["chosen"] for entry in log if entry["event"] == "interpolation"}
    checkpoint = torch.load(benchmark.root / "legs" / result["rounds"][0]["leg"] / "checkpoint.pth", weights_only=False)
    assert chosen == {checkpoint["nnunet_active"]["interpolation"]}


def _recipes(*names: str) -> tuple:
    from nnunet_active.benchmark.configuration import Configuration

    content = {"dataset": "x", "configuration": "2d", "arms": [], "recipes": list(names), "held_out": 2}
    return Configuration.from_json(content).recipes


@pytest.mark.long
def test_every_registered_strategy_can_be_an_arm_by_its_name(nnunet_folders: Path):
    names = sorted(available_strategies())
    benchmark = tiny_benchmark(nnunet_folders, arms=tuple(map(Arm, names)))
    for name in names:
        rounds = execute(job_of(benchmark, name))["rounds"]
        assert [len(one["labelled"]) for one in rounds] == [1, 2], name


def test_arms_that_ask_for_slices_are_counted_in_slices_and_leave_the_target_as_it_is(nnunet_folders):
    arms = ("random", "random:slices=centre:per_case=2")
    benchmark = tiny_benchmark(nnunet_folders, arms=tuple(map(parse_arm, arms)), unit="slice", budget=4, query_size=2)
    before = (benchmark.target.folder / "dataset.json").read_bytes()
    rows = []
    for job in benchmark.open_jobs():
        result = execute(job)
        rows += rows_of(result)
        if job.spec.arm != SOURCE:
            assert [one["labels"] for one in result["rounds"]] == [2, 4]
            foreground = [one["foreground"] for one in result["rounds"]]
            assert 0 <= foreground[0] <= foreground[1] < result["pool_foreground"]
    table = pd.DataFrame(rows)
    ours = table[table["arm"] != SOURCE]
    assert set(ours["unit"]) == {"slice"} and ours["labels"].max() == 4
    assert (ours["opened"] >= ours["scans"]).all()
    assert (benchmark.target.folder / "dataset.json").read_bytes() == before


def test_a_run_of_slices_that_is_done_again_takes_its_legs_from_the_first(nnunet_folders):
    arms = (parse_arm("random"), Arm("random", name="the same again"))
    benchmark = tiny_benchmark(nnunet_folders, arms=arms, unit="slice", budget=4, query_size=2)
    first, second = (execute(job_of(benchmark, arm.name)) for arm in arms)
    assert [one["leg"] for one in first["rounds"]] == [one["leg"] for one in second["rounds"]]
    assert second["seconds"]["trained_here"] == 0


def guarded(cases: int = 2) -> dict:
    return {"recipes": (Recipe("guarded", fine_tuning=recipe("guarded")),), "budget": 2 * cases, "query_size": cases}


def test_what_the_gate_saw_is_kept_and_nobody_who_is_tested_on_judges(nnunet_folders: Path):
    job = job_of(tiny_benchmark(nnunet_folders, **guarded(1)), "random")
    result = execute(job)
    first, second = result["rounds"]
    assert (first["interpolation"], first["judged"]) == (0.25, [])
    (judge,) = second["judged"]
    assert judge["case"] == second["requested"][0] and judge["kind"] == "prequential"
    assert set(judge) == {"case", "kind", "weight", "0", "0.25", "0.5", "0.75"} and judge["weight"] == 1
    assert [row["chosen"] for row in judged_rows(result)] == [second["interpolation"]]
    write_tables(job.root, [result])
    (row,) = pd.read_csv(job.root / "judged.csv").to_dict("records")
    assert row["case"] == judge["case"] and row["0.75"] == pytest.approx(judge["0.75"])
    assert not {judge["case"]} & set(job.spec.test)
    log = (job.folder / "log.txt").read_text()
    assert log.count("Gate: ") == 2  # the end of each leg, though the training itself chooses there once more


def test_a_run_that_takes_over_trained_legs_takes_over_what_judged_them(nnunet_folders: Path):
    arms = (Arm("random"), Arm("random", name="the same again"))
    benchmark = tiny_benchmark(nnunet_folders, arms=arms, **guarded())
    first, second = (execute(job_of(benchmark, arm.name)) for arm in arms)
    assert {row["kind"] for row in first["rounds"][0]["judged"]} == {"cross_fit"}
    assert [len(one["judged"]) for one in first["rounds"]] == [2, 4]
    assert [one["judged"] for one in second["rounds"]] == [one["judged"] for one in first["rounds"]]
    job = job_of(tiny_benchmark(nnunet_folders, "pieces", arms=arms, **guarded()), "random")
    execute(job)
    job.result_file.unlink()
    shutil.rmtree(job.folder)
    shutil.rmtree(job.root / "legs" / first["rounds"][-1]["leg"])  # another run made the first leg, this one the second
    again = execute(job)
    assert outcome(again) == outcome(first)
    assert [one["judged"] for one in again["rounds"]] == [one["judged"] for one in first["rounds"]]
