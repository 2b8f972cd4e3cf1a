"""All runs of a benchmark: one for each arm, recipe, fold and seed, and the references."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nnunet_active.benchmark.configuration import ALL_LABELS, SOURCE, Arm, Configuration, Recipe
from nnunet_active.campaign.settings import Settings
from nnunet_active.util.errors import CampaignError


@dataclass(frozen=True)
class Fold:
    """The cases that may be asked for, and the test cases."""

    number: int
    train: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides a run; it can be stored as JSON and run again from there.

    Attributes:
        arm: name of the arm, or of a reference: ``source`` (the carried-over source network, unchanged) or ``all labels``.
        recipe: name of the recipe.
        dataset, configuration, plans: in nnU-Net's terms.
        trainer: trainer class.
        fold, train, test: the split.
        val: cases set aside for a recipe that chooses by them.
        settings: of the campaign (:class:`~nnunet_active.campaign.settings.Settings` as JSON); None for ``source``.
        seed: also in the settings.
        device, threads, tolerance_mm: see :class:`~nnunet_active.benchmark.configuration.Configuration`.
    """

    arm: str
    recipe: str
    dataset: str
    configuration: str
    plans: str
    trainer: str
    fold: int
    train: tuple[str, ...]
    test: tuple[str, ...]
    seed: int
    settings: dict[str, Any] | None
    device: str = "cpu"
    threads: int = 1
    tolerance_mm: float = 2.0
    val: tuple[str, ...] = ()

    @property
    def identifier(self) -> str:
        """Name of the run's folder: readable, with a digest of everything that decides the run."""
        words = [self.arm, *([] if self.arm == SOURCE else [self.recipe]), f"fold{self.fold}"]
        words += [] if self.arm == SOURCE else [f"seed{self.seed}"]
        readable = re.sub(r"[^A-Za-z0-9_=.-]+", "_", "__".join(words))[:80]
        return f"{readable}__{digest_of(self.to_json())[:8]}"

    def to_json(self) -> dict[str, Any]:
        """The content in JSON types."""
        content = json.loads(json.dumps(asdict(self)))
        if not self.val:
            del content["val"]  # keeps the name of runs without val as it was before val existed
        return content

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> RunSpec:
        """Read back."""
        lists = {name: tuple(content.get(name, ())) for name in ("train", "test", "val")}
        return cls(**{**content, **lists})


def digest_of(content: Any) -> str:
    """Hex digest (BLAKE2b, 16 bytes) of JSON content; the order of keys has no effect."""
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


def plan_runs(configuration: Configuration, folds: Sequence[Fold]) -> list[RunSpec]:
    """Plan the references first, then seed by seed, so that an unfinished benchmark compares all arms on the seeds it has.

    Raises:
        CampaignError: a fold's pool is empty or smaller than the budget, or the schedule makes no sense.
    """
    for fold in folds:
        _check_pool(configuration, fold)
    runs = [_source(configuration, fold) for fold in folds]
    for seed in configuration.seeds:
        for recipe in configuration.recipes:
            for fold in folds:
                runs += [_strategy(configuration, arm, recipe, fold, seed) for arm in configuration.arms]
    if configuration.all_labels:
        runs += [
            _all_labels(configuration, recipe, fold, seed)
            for seed in configuration.seeds
            for recipe in configuration.recipes
            for fold in folds
        ]
    return runs


def _check_pool(configuration: Configuration, fold: Fold) -> None:
    pool = len(fold.train) - configuration.held_out
    if pool < 1:
        raise CampaignError(
            f"--held-out {configuration.held_out} leaves nothing to choose from: fold {fold.number} has {len(fold.train)} labelled "
            f"cases."
        )
    if configuration.unit == "case" and configuration.budget > pool:
        raise CampaignError(
            f"--budget {configuration.budget} is more than the {pool} labelled cases that fold {fold.number} may choose from."
        )


def _common(configuration: Configuration, fold: Fold, seed: int = 0) -> dict[str, Any]:
    drawn = np.random.default_rng([seed, fold.number]).choice(fold.train, configuration.held_out, replace=False)
    val = {str(case) for case in drawn}
    return {
        "dataset": configuration.dataset,
        "configuration": configuration.configuration,
        "plans": configuration.plans,
        "fold": fold.number,
        "train": tuple(case for case in fold.train if case not in val),
        "val": tuple(sorted(val)),
        "test": fold.test,
        "device": configuration.device,
        "threads": configuration.threads,
        "tolerance_mm": configuration.tolerance_mm,
    }


def _source(configuration: Configuration, fold: Fold) -> RunSpec:
    return RunSpec(SOURCE, "-", trainer="-", seed=0, settings=None, **_common(configuration, fold))


def _settings(configuration: Configuration, recipe: Recipe, seed: int, **more: Any) -> dict[str, Any]:
    queries = -(-configuration.budget // configuration.query_size)
    settings = Settings(
        oracle="retrospective",
        stride=configuration.stride,
        epochs=configuration.epochs or queries * configuration.stride,
        iterations=configuration.iterations,
        val_iterations=configuration.val_iterations,
        initial_lr=recipe.lr if recipe.lr is not None else configuration.lr,
        fine_tuning={**recipe.fine_tuning, "compare": False},  # the benchmark makes its own comparison
        restart=recipe.restart,
        seed=seed,
        **more,
    )
    return settings.to_json()


def _strategy(configuration: Configuration, arm: Arm, recipe: Recipe, fold: Fold, seed: int) -> RunSpec:
    settings = _settings(
        configuration,
        recipe,
        seed,
        strategy=arm.strategy,
        strategy_options=arm.options,
        budget=configuration.budget,
        query_size=configuration.query_size,
        one_off=arm.one_off,
        pseudo_labels=arm.pseudo_labels,
        **_of_slices(configuration, arm),
    )
    trainer = recipe.trainer or arm.trainer or configuration.trainer
    return RunSpec(
        arm.name, recipe.name, trainer=trainer, seed=seed, settings=settings, **_common(configuration, fold, seed)
    )


def _of_slices(configuration: Configuration, arm: Arm) -> dict[str, Any]:
    """Settings that ask for slices; empty if whole cases are asked for."""
    if configuration.unit == "case":
        return {}
    own = {name: getattr(configuration, name) for name in ("unit", "per_case", "slices", "axis")}
    return {**own, **arm.of_slices}


def _all_labels(configuration: Configuration, recipe: Recipe, fold: Fold, seed: int) -> RunSpec:
    common = _common(configuration, fold, seed)
    settings = _settings(configuration, recipe, seed, strategy="random", budget=len(common["train"]), one_off=True)
    trainer = recipe.trainer or configuration.trainer
    return RunSpec(ALL_LABELS, recipe.name, trainer=trainer, seed=seed, settings=settings, **common)
