"""A whole benchmark: prepares the target once, plans the runs, does the unfinished ones, keeps the tables up to date."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from nnunet_active.benchmark.configuration import SOURCE, Configuration
from nnunet_active.benchmark.engines import Engine, Outcome
from nnunet_active.benchmark.execution import Job
from nnunet_active.benchmark.plan import Fold, RunSpec, plan_runs
from nnunet_active.benchmark.results import (
    CASES,
    PSEUDO_LABELS,
    ROWS,
    finished,
    finished_before,
    labels_of_round,
    per_class,
    read_rows,
    write_tables,
)
from nnunet_active.benchmark.surfaces import available
from nnunet_active.benchmark.target import SharedTarget, make_folds, prepare_target
from nnunet_active.util.atomic import write_json
from nnunet_active.util.errors import CampaignError
from nnunet_active.util.lock import hold
from nnunet_active.util.log import Log
from nnunet_active.util.outputs import check_output_folder
from nnunet_active.util.progress import bar_is_shown

CONFIGURATION = "benchmark.json"


@dataclass(frozen=True)
class Benchmark:
    """A benchmark that is ready to run.

    Attributes:
        root: its folder.
        configuration: what is compared.
        target: planned and preprocessed.
        folds: the cases to choose from and to test on.
        runs: all of them.
    """

    root: Path
    configuration: Configuration
    target: SharedTarget
    folds: tuple[Fold, ...]
    runs: tuple[RunSpec, ...]

    @property
    def results(self) -> list[dict]:
        """Results of the finished runs."""
        return finished(self.root, self.runs)

    def open_jobs(self) -> list[Job]:
        """Unfinished runs, in order."""
        digests = self.target.digests()
        jobs = [Job(run, self.target, digests, self.root) for run in self.runs]
        return [job for job in jobs if not job.result_file.is_file()]


def prepare_benchmark(configuration: Configuration, root: Path, model: Path | None, processes: int = 1) -> Benchmark:
    """Plan and preprocess if a source model is named, make the folds, plan the runs.

    Raises:
        ActiveError: see :func:`~nnunet_active.benchmark.target.prepare_target`,
            :func:`~nnunet_active.benchmark.target.make_folds` and :func:`~nnunet_active.benchmark.plan.plan_runs`.
    """
    root = root.resolve()
    names = (ROWS, CASES, PSEUDO_LABELS, "runs", "legs", "jobs", "summary")
    check_output_folder(root, lambda folder: (folder / "target.json").is_file(), names, "the folder of a benchmark")
    target = prepare_target(
        configuration.dataset, configuration.configuration, configuration.plans, model, root, processes
    )
    split_file = None if configuration.split_file is None else Path(configuration.split_file)
    folds = make_folds(target, configuration.folds, configuration.splits, split_file)
    runs = plan_runs(configuration, folds)
    _check_same_target(root, target)
    return Benchmark(root, configuration, target, tuple(folds), tuple(runs))


def _check_same_target(root: Path, target: SharedTarget) -> None:
    """Refuse another target, because the results of one folder must be comparable."""
    file = root / "target.json"
    content = target.digests()
    if file.is_file() and json.loads(file.read_text()) != content:
        raise CampaignError(
            f"{root} holds a benchmark of another state of {target.dataset} (plans, source network or cases have changed); use "
            f"another folder with -o."
        )
    write_json(file, content)


def run_benchmark(
    benchmark: Benchmark,
    engine: Engine,
    log: Log = tqdm.write,
    progress: bool = True,
) -> list[Outcome]:
    """Do the unfinished runs; after every run, the tables are rewritten, including results of earlier calls in this folder.

    Returns:
        The failed runs.

    Raises:
        CampaignError: another process is at work on the same benchmark.
    """
    failed = []
    with hold(benchmark.root):
        write_json(benchmark.root / CONFIGURATION, benchmark.configuration.to_json())
        jobs = benchmark.open_jobs()
        if not available():
            log(
                "MONAI is not installed, so there is no surface Dice and no HD95 (pip install nnunet_active[benchmark])."
            )
        total = len(benchmark.runs)
        with tqdm(
            total=total, initial=total - len(jobs), desc="Benchmark", unit="run", disable=not bar_is_shown(progress)
        ) as bar:
            for outcome in engine.run(jobs):
                if outcome.result is None:
                    failed.append(outcome)
                    log(f"{outcome.job.spec.identifier}: {outcome.problem}")
                else:
                    write_all_tables(benchmark)
                    bar.set_postfix_str(_headline(outcome.result))
                bar.update()
        write_all_tables(benchmark)
    return failed


def add_missing_rows(benchmark: Benchmark) -> None:
    """Write the tables again if a finished run is not in them: a kill may have come between a run and its rows."""
    file = benchmark.root / ROWS
    known = {*read_rows(file)["run"]} if file.is_file() else set()
    if not known.issuperset(result["run"] for result in benchmark.results):
        write_all_tables(benchmark)


def write_all_tables(benchmark: Benchmark) -> None:
    """Write the tables of the finished runs, with comparable ones of earlier calls; nothing if none is finished."""
    if results := benchmark.results:
        write_tables(benchmark.root, [*finished_before(benchmark.root, benchmark.runs), *results])


def _headline(result: dict) -> str:
    last = result["rounds"][-1]
    dice = per_class(pd.DataFrame(last["cases"])).loc["mean", "dice"]
    spec = result["spec"]
    which = spec["arm"] if spec["arm"] == SOURCE else f"{spec['arm']} {spec['recipe']} seed {spec['seed']}"
    return f"{which}: Dice {dice:.3f} with {labels_of_round(last)} labels"
