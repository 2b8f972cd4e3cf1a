"""What all runs share, and the folds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import tiny_source
from tiny_benchmark import configuration, tiny_benchmark
from tiny_target import NAME, PLANS, make_target

from nnunet_active.benchmark.all_runs import prepare_benchmark, run_benchmark
from nnunet_active.benchmark.target import make_folds, nnunet_environment, prepare_target
from nnunet_active.nnunet_discovery import discovery_folder
from nnunet_active.util.errors import CampaignError, MissingInput


def test_a_source_model_is_enough_and_the_users_folder_stays_empty(nnunet_folders: Path):
    made = make_target(nnunet_folders)
    made.preprocessed.rename(nnunet_folders / "elsewhere")
    target = prepare_target(NAME, "3d_fullres", PLANS, made.model, nnunet_folders / "benchmark")
    assert target.store().labelled_identifiers() == [f"case_{n}" for n in range(6)]
    assert list((nnunet_folders / "nnUNet_preprocessed").iterdir()) == []
    digests = target.digests()
    again = prepare_target(NAME, "3d_fullres", PLANS, made.model, nnunet_folders / "benchmark")
    assert again.digests() == digests


def test_a_benchmark_that_was_begun_with_a_source_model_goes_on_without_its_name(nnunet_folders: Path):
    made = make_target(nnunet_folders)
    plans = made.preprocessed / f"{PLANS}.json"
    plans.write_text(plans.read_text() + "\n")  # the user's own plans are others
    begun = prepare_benchmark(configuration(), nnunet_folders / "benchmark", made.model)
    again = prepare_benchmark(configuration(), nnunet_folders / "benchmark", None)
    assert again.target == begun.target and again.runs == begun.runs


def test_a_preprocessing_that_was_killed_goes_on_without_the_models_name(nnunet_folders: Path):
    made = make_target(nnunet_folders)
    target = prepare_target(NAME, "3d_fullres", PLANS, made.model, nnunet_folders / "benchmark")
    digests = target.digests()
    for file in target.store().folder.glob("case_3*"):
        file.unlink()
    assert prepare_target(NAME, "3d_fullres", PLANS, None, nnunet_folders / "benchmark").digests() == digests


def test_the_source_model_of_a_benchmark_is_planned_under_the_plans_name(nnunet_folders: Path):
    made = make_target(nnunet_folders)
    target = prepare_target(NAME, "3d_fullres", "OtherPlans", made.model, nnunet_folders / "benchmark")
    assert target.store().labelled_identifiers() and target.source.is_dir()


def test_a_source_model_for_a_benchmark_that_was_begun_without_changes_nothing(nnunet_folders: Path):
    begun = tiny_benchmark(nnunet_folders)
    with pytest.raises(CampaignError, match="not begun on Dataset902_TinyTarget with -m; leave -m out"):
        prepare_benchmark(configuration(), nnunet_folders / "benchmark", nnunet_folders / "model")
    assert tiny_benchmark(nnunet_folders).target == begun.target


def test_another_source_model_than_the_one_that_a_benchmark_was_begun_with_is_refused(nnunet_folders: Path):
    made = make_target(nnunet_folders)
    begun = prepare_benchmark(configuration(), nnunet_folders / "benchmark", made.model)
    other = tiny_source.write_trained(tiny_source.source_model(seed=9), nnunet_folders / "other", fold="2")
    said = rf"begun with another source model \(.*, fold 0\) than {other}.*, fold 2; leave -m out .* use another folder with -o"
    with pytest.raises(CampaignError, match=said):
        prepare_benchmark(configuration(), nnunet_folders / "benchmark", other)
    assert prepare_benchmark(configuration(), nnunet_folders / "benchmark", made.model) == begun


def test_folds_are_nnunets_or_those_of_a_file_and_never_test_on_the_pool(nnunet_folders: Path, tmp_path: Path):
    target = tiny_benchmark(nnunet_folders).target
    folds = make_folds(target, (0, 1, 2), 3, None)
    assert sorted(case for fold in folds for case in fold.test) == [f"case_{n}" for n in range(6)]
    assert all(not set(fold.train) & set(fold.test) for fold in folds)
    file = tmp_path / "splits.json"
    file.write_text(json.dumps([{"train": ["case_0", "case_9"], "val": ["case_5"]}]))
    (fold,) = make_folds(target, (0,), 3, file)
    assert (fold.train, fold.test) == (("case_0",), ("case_5",))
    with pytest.raises(CampaignError, match="no fold 1"):
        make_folds(target, (1,), 3, file)
    with pytest.raises(CampaignError, match="cannot be split into 7"):
        make_folds(target, (0,), 7, None)
    with pytest.raises(MissingInput):
        make_folds(target, (0,), 3, tmp_path / "none.json")


def test_what_is_missing_is_named(nnunet_folders: Path):
    target = make_target(nnunet_folders)
    (target.preprocessed / "active" / "source").rename(nnunet_folders / "elsewhere")
    with pytest.raises(MissingInput, match="name it with -m MODEL"):
        prepare_benchmark(configuration(), nnunet_folders / "benchmark", None)


def test_a_folder_holds_one_state_of_a_target_only(nnunet_folders: Path):
    benchmark = tiny_benchmark(nnunet_folders)
    plans = benchmark.target.folder / f"{PLANS}.json"
    plans.write_text(plans.read_text() + "\n")
    with pytest.raises(CampaignError, match="another state"):
        tiny_benchmark(nnunet_folders)


class Refusing:
    """An engine without a machine."""

    def run(self, jobs):
        from nnunet_active.benchmark.engines import Outcome

        for job in jobs:
            yield Outcome(job, None, "no machine")


def test_failed_runs_are_told_and_stay_open(nnunet_folders: Path):
    benchmark = tiny_benchmark(nnunet_folders)
    said: list[str] = []
    failed = run_benchmark(benchmark, Refusing(), said.append, progress=False)
    assert len(failed) == len(benchmark.runs) == len(benchmark.open_jobs())
    assert any("no machine" in text for text in said)


def test_folders_of_other_trainers_stay_beside_ours(nnunet_folders, monkeypatch):
    ours = str(discovery_folder())
    for named in (f"/theirs{os.pathsep}{ours}", f"/theirs{os.pathsep}", "/theirs"):
        monkeypatch.setenv("nnUNet_extTrainer", named)
        with nnunet_environment():
            assert os.environ["nnUNet_extTrainer"].split(os.pathsep) == [ours, "/theirs"]
        assert os.environ["nnUNet_extTrainer"] == named
