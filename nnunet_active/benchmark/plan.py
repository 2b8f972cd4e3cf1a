"""All the runs of a benchmark: one for each arm, recipe, fold and seed, and the references."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nnunet_active.benchmark.configuration import ALL_LABELS, SOURCE, Arm, Configuration, Recipe
from nnunet_active.errors import CampaignError
from nnunet_active.settings import Settings


@dataclass(frozen=True)
class Fold:
    """Who may be asked for, and who is tested on."""

    number: int
    train: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides a run; it can be written down as JSON and run again from there.

    Attributes:
        arm: name of the arm, or of a reference: ``source`` (the carried-over source network as it is) or ``all labels``.
        recipe: name of the recipe.
        dataset, configuration, plans: as nnU-Net names them.
        trainer: trainer class.
        fold, train, test: the split.
        settings: of the campaign (:class:`~nnunet_active.settings.Settings` as JSON); None for ``source``.
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

    @property
    def identifier(self) -> str:
        """Name of the run's folder: readable, with a digest of everything that decides the run."""
        words = [self.arm, *([] if self.arm == SOURCE else [self.recipe]), f"fold{self.fold}"]
        words += [] if self.arm == SOURCE else [f"seed{self.seed}"]
        readable = re.sub(r"[^A-Za-z0-9_=.-]+", "_", "__".join(words))[:80]
        return f"{readable}__{digest_of(self.to_json())[:8]}"

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> RunSpec:
        """Read back."""
        return cls(**{**content, "train": tuple(content["train"]), "test": tuple(content["test"])})


def digest_of(content: Any) -> str:
    """Hex digest (BLAKE2b, 16 bytes) of JSON content; the order of keys does not count."""
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


def plan_runs(configuration: Configuration, folds: Sequence[Fold]) -> list[RunSpec]:
    """The references first, then seed by seed, so that an unfinished benchmark compares all arms on the seeds it has.

    Raises:
        CampaignError: the budget is larger than a fold's pool, or the schedule makes no sense.
    """
    runs = [_source(configuration, fold) for fold in folds]
    for fold in folds:
        if configuration.budget > len(fold.train):
            raise CampaignError(
                f"--budget {configuration.budget} is more than the {len(fold.train)} labelled cases that fold {fold.number} may "
                f"choose from."
            )
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


def _common(configuration: Configuration, fold: Fold) -> dict[str, Any]:
    return {
        "dataset": configuration.dataset,
        "configuration": configuration.configuration,
        "plans": configuration.plans,
        "fold": fold.number,
        "train": fold.train,
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
        fine_tuning={**recipe.fine_tuning, "compare": False},  # the benchmark compares by itself
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
    )
    trainer = recipe.trainer or arm.trainer or configuration.trainer
    return RunSpec(arm.name, recipe.name, trainer=trainer, seed=seed, settings=settings, **_common(configuration, fold))


def _all_labels(configuration: Configuration, recipe: Recipe, fold: Fold, seed: int) -> RunSpec:
    settings = _settings(configuration, recipe, seed, strategy="random", budget=len(fold.train), one_off=True)
    trainer = recipe.trainer or configuration.trainer
    return RunSpec(
        ALL_LABELS, recipe.name, trainer=trainer, seed=seed, settings=settings, **_common(configuration, fold)
    )
