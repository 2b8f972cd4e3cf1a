"""One run from its start, or from where it was killed, to its result."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_active.benchmark.case_metrics import Evaluator
from nnunet_active.benchmark.configuration import SOURCE
from nnunet_active.benchmark.legs import Leg, LegCache
from nnunet_active.benchmark.plan import RunSpec, digest_of
from nnunet_active.benchmark.provenance import LIBRARIES, code_digest, installed, versions
from nnunet_active.benchmark.recorded_training import LegReused, RecordedTraining, labelled_by_leg, recorded
from nnunet_active.benchmark.source_predictions import SourcePredictions
from nnunet_active.benchmark.target import SharedTarget, nnunet_environment, write_splits
from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_start import start_campaign
from nnunet_active.campaign.place import Place
from nnunet_active.campaign.settings import Settings
from nnunet_active.data.campaign_files import campaign_file
from nnunet_active.data.ignore_label import add_ignore_label
from nnunet_active.nnunet.networks import find_trainer_class
from nnunet_active.nnunet.nnunet_paths import preprocessed_folder
from nnunet_active.training.query_mixin import ActiveQueryMixin
from nnunet_active.util.atomic import copy_file, write_json
from nnunet_active.util.errors import ActiveError, CampaignError
from nnunet_active.util.moments import now_in_utc

RESULT = "result.json"


@dataclass(frozen=True)
class Job:
    """A run and where to do it; small enough to be sent to another machine.

    Attributes:
        spec: the run.
        target: what it starts from.
        digests: of the target; a result is valid only for these.
        root: the benchmark's folder.
    """

    spec: RunSpec
    target: SharedTarget
    digests: dict[str, str]
    root: Path

    @property
    def folder(self) -> Path:
        """The run's own folder."""
        return self.root / "runs" / self.spec.identifier

    @property
    def result_file(self) -> Path:
        """Written last: if it exists, the run is finished."""
        return self.folder / RESULT


def execute(job: Job) -> dict[str, Any]:
    """Do a run unless it is finished, and return its result (also in ``result.json``).

    Everything that nnU-Net prints goes to ``log.txt`` in the run's folder.
    """
    if job.result_file.is_file():
        return json.loads(job.result_file.read_text())
    job.folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    torch.set_num_threads(job.spec.threads)
    with _log(job.folder / "log.txt"), _folders(job):
        content = _source(job) if job.spec.arm == SOURCE else _adaptation(job)
    wall = time.perf_counter() - start
    seconds = content["seconds"]
    known = seconds["trained_here"] + seconds["query"] + seconds["evaluation"]
    content["seconds"] = {**seconds, "wall": wall, "overhead": max(0.0, wall - known)}
    content |= {
        "run": job.spec.identifier,
        "spec": job.spec.to_json(),
        "digests": job.digests,
        "versions": versions(),
        "code": code_digest(),
        "finished": now_in_utc(),
    }
    write_json(job.result_file, content)
    return content


def _folders(job: Job) -> contextlib.AbstractContextManager[None]:
    preprocessed, results = job.folder / "nnUNet_preprocessed", job.folder / "nnUNet_results"
    results.mkdir(parents=True, exist_ok=True)
    return nnunet_environment(nnUNet_raw=job.target.raw, nnUNet_preprocessed=preprocessed, nnUNet_results=results)


@contextmanager
def _log(file: Path) -> Iterator[None]:
    with (
        file.open("a", buffering=1, encoding="utf-8") as stream,
        contextlib.redirect_stdout(stream),
        contextlib.redirect_stderr(stream),
    ):
        yield


class _Evaluations:
    """Evaluations, stored by what decides them, so that a killed run, or another run with the same network, repeats none."""

    def __init__(self, job: Job) -> None:
        self.job = job
        spec = job.spec
        self.evaluator = Evaluator(job.target, spec.test, spec.device, spec.tolerance_mm)
        self.base = {"test": spec.test, "tolerance": spec.tolerance_mm, "digests": job.digests, "versions": versions()}
        file = job.root / "evaluations" / f"{digest_of({**self.base, 'label maps': 'source'})}.npz"
        self.source = SourcePredictions(file, spec.test, lambda: self.evaluator.predictions(self.evaluator.source()))
        self.seconds = 0.0

    def of(self, key: str, checkpoint: Path | None) -> list[dict[str, Any]]:
        """Rows for every test case and class."""
        file = self.job.root / "evaluations" / f"{digest_of({**self.base, 'network': key, 'beside': 'source'})}.json"
        if not file.is_file():
            start = time.perf_counter()
            network = self.evaluator.source() if checkpoint is None else self.evaluator.checkpoint(checkpoint)
            table = self.evaluator.measure(network, self.source.of)
            write_json(file, json.loads(table.to_json(orient="records", double_precision=15)))
            self.seconds += time.perf_counter() - start
        return json.loads(file.read_text())


def _source(job: Job) -> dict[str, Any]:
    evaluations = _Evaluations(job)
    cases = evaluations.of("source", None)
    seconds = {"training": 0.0, "trained_here": 0.0, "query": 0.0, "evaluation": evaluations.seconds}
    rounds = [{"round": 0, "epoch": 0, "labelled": [], "requested": [], "weights": "", "foreground": 0, "cases": cases}]
    return {"rounds": rounds, "seconds": seconds, "pool_foreground": evaluations.evaluator.foreground(job.spec.train)}


def _adaptation(job: Job) -> dict[str, Any]:
    spec = job.spec
    trainer = _trainer_class(spec.trainer)
    settings = Settings.from_json(spec.settings)
    if settings.initial_lr is None:
        settings = replace(settings, initial_lr=trainer.active_initial_lr)
    folder = job.target.link_into(Path(os.environ["nnUNet_preprocessed"]), job.root / "shared")
    if settings.unit == "slice":
        add_ignore_label([folder / "dataset.json"])  # a file of this run replaces the link
    density = f"density_{spec.plans}_{spec.configuration}.npz"
    shared_density = job.root / "shared" / density
    if shared_density.is_file() and not (folder / "active" / density).exists():
        copy_file(shared_density, folder / "active" / density)
    if not campaign_file(folder, spec.fold).is_file():
        write_splits(folder, spec.fold, spec.train, spec.val)  # no test case in val: they must not influence the run
        start_campaign(Place.of(spec.dataset, spec.configuration, spec.plans, str(spec.fold)), settings)
    context = {
        "digests": job.digests,
        "versions": installed(*LIBRARIES),
        **{name: getattr(spec, name) for name in ("plans", "configuration", "trainer", "train", "test", "device")},
        "threads": spec.threads,
        **({"val": spec.val} if spec.val else {}),
    }
    semi_supervised = settings.pseudo_labels is not None or trainer.active_pseudo_labels is not None
    legs = LegCache(job.root / "legs", context, settings, whole_rounds=semi_supervised)
    spent = _train(job, trainer, legs, lambda: Campaign.open(folder, spec.fold))
    if (folder / "active" / density).is_file() and not shared_density.is_file():
        copy_file(folder / "active" / density, shared_density)
    return _result(job, legs, Campaign.open(folder, spec.fold), settings, spent)


def _train(job: Job, trainer_class: type[nnUNetTrainer], legs: LegCache, campaign: Any) -> dict[str, float]:
    """Train leg by leg, except for legs in the cache."""
    spec = job.spec
    spent = {"query": 0.0, "training": 0.0, "judging": 0.0}
    last = legs.ends()[-1]
    while True:
        leg = _farthest(campaign(), legs)
        if leg is not None and leg.facts["epoch"] >= last:
            return spent
        trainer = _make_trainer(spec, trainer_class)
        trainer.legs = legs
        trainer.measure_pseudo_labels = lambda weights: _measure_pool(job, weights)
        if leg is not None:
            trainer.go_on_from(leg)
        try:
            trainer.run_training()
        except LegReused:
            continue
        except SystemExit as end:  # the trainers end with one sentence in the log, where a user would see it
            if end.code not in (0, ActiveError.exit_code):
                raise
            raise CampaignError(f"The training ended by itself; see the end of {job.folder / 'log.txt'}.") from end
        finally:
            spent["query"] += trainer.seconds_query
            spent["training"] += trainer.seconds_trained
            spent["judging"] += trainer.seconds_judging
            trainer._leave()


def _measure_pool(job: Job, weights: dict[str, torch.Tensor]) -> pd.DataFrame:
    pool = Evaluator(job.target, job.spec.train, job.spec.device, job.spec.tolerance_mm)
    return pool.measure(pool.network(weights))


def _farthest(campaign: Campaign, legs: LegCache) -> Leg | None:
    """The last leg in the cache that follows from this campaign's labels."""
    leg = None
    if campaign.waiting():
        return None
    history: list[list[str]] = []
    for start, labelled in labelled_by_leg(campaign, legs, legs.settings.epochs):
        history.append(labelled)
        found = None if campaign.query_due(start) else legs.find(history)
        if found is None:
            return leg
        leg = found
    return leg


def _make_trainer(spec: RunSpec, trainer_class: type[nnUNetTrainer]) -> RecordedTraining:
    # as nnU-Net's get_trainer_from_args, but with the recorded class instead of the one found by name
    folder = preprocessed_folder(spec.dataset)
    plans = json.loads((folder / f"{spec.plans}.json").read_text())
    dataset_json = json.loads((folder / "dataset.json").read_text())
    return recorded(trainer_class)(
        plans={**plans, "continue_training": False},
        configuration=spec.configuration,
        fold=spec.fold,
        dataset_json=dataset_json,
        device=torch.device(spec.device),
    )


def _trainer_class(name: str) -> type[nnUNetTrainer]:
    with contextlib.redirect_stdout(io.StringIO()):
        trainer = find_trainer_class(name)
    if trainer is None or not issubclass(trainer, ActiveQueryMixin):
        raise CampaignError(f"-tr {name} is not a trainer that queries; nnUNetTrainerActive is one.")
    return trainer


def _result(
    job: Job, legs: LegCache, campaign: Campaign, settings: Settings, spent: dict[str, float]
) -> dict[str, Any]:
    evaluations = _Evaluations(job)
    made = campaign.rounds
    if not made:
        raise ActiveError(f"The run {job.spec.identifier} made no query; see log.txt in its folder.")
    ends = {one.number: following.epoch for one, following in itertools.pairwise(made)}
    ends[made[-1].number] = legs.ends()[-1]
    history: list[list[str]] = []
    by_end: dict[int, Leg] = {}
    for start, labelled in labelled_by_leg(campaign, legs, legs.ends()[-1]):
        history.append(labelled)
        leg = legs.find(history)
        by_end[leg.facts["epoch"]] = leg
        assert leg.facts["epoch"] == legs.end_of(start)
    rounds = []
    for one in made:
        leg = by_end[ends[one.number]]
        labelled = campaign.labelled(one.epoch)
        rounds.append(
            {
                "round": one.number,
                "epoch": leg.facts["epoch"],
                "labelled": labelled,
                "labels": campaign.labels_known(one.epoch),
                "opened": sum(len(earlier.requested) for earlier in made if earlier.number <= one.number),
                "requested": list(one.requested),
                "open_first": {c: e["name"] for c, e in one.selection()["dominant_modality"].items()},
                "leg": leg.key,
                "weights": leg.facts["weights"],
                "foreground": evaluations.evaluator.foreground(labelled, campaign.known_slices(one.epoch)),
                "cases": evaluations.of(leg.key, leg.checkpoint),
                "pseudo_labels": leg.facts.get("pseudo_labels", []),
                "interpolation": (choice := leg.facts.get("interpolation", {})).get("chosen"),
                "judged": choice.get("by_case", []),
            }
        )
    seconds = {
        "training": sum(leg.facts["seconds"] for leg in by_end.values()),
        "trained_here": spent["training"],
        "query": spent["query"],
        "evaluation": evaluations.seconds + spent["judging"],
    }
    settings_used = {"initial_lr": settings.initial_lr, "epochs": settings.epochs}
    return {
        "rounds": rounds,
        "seconds": seconds,
        "settings_used": settings_used,
        "pool_foreground": evaluations.evaluator.foreground(job.spec.train),
    }
