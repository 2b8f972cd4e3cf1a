"""What a benchmark compares: arms (a strategy with its options), recipes (ways of fine-tuning), schedule, seeds and folds."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nnunet_active.benchmark.checked_settings import checked_settings
from nnunet_active.campaign.fine_tuning import FEWEST, FineTuning, default_recipe, recipe
from nnunet_active.campaign.settings import PER_CASE, SLICE_AXES, SLICE_RULES
from nnunet_active.commands import DEFAULT_PLANS
from nnunet_active.strategies.registry import get_strategy
from nnunet_active.util.errors import CampaignError, MissingInput
from nnunet_active.util.named_values import value_of
from nnunet_active.util.strategy_files import colon_separated, found_from_anywhere

SOURCE, ALL_LABELS = "source", "all labels"
RESERVED = (SOURCE, ALL_LABELS)
_ONE_OFF, _PSEUDO = "one_off", "pseudo"
_OF_SLICES = ("slices", "per_case", "axis")
_LOWEST = {
    **dict.fromkeys(
        ("budget", "query_size", "stride", "iterations", "val_iterations", "epochs", "threads", "per_case"), 1
    ),
    "splits": 2,
    "held_out": 0,
}
"""Whole numbers, each with its lowest value."""
_OF_OWN_FORM = (*_LOWEST, "tolerance_mm", "seeds", "folds", "arms", "recipes")
"""Settings that are checked elsewhere, each with a sentence of its own."""
_FLAGS = {"dataset": "-d", "configuration": "-c", "arms": "--strategies"}


@dataclass(frozen=True)
class Arm:
    """One way to choose cases.

    Attributes:
        strategy: name of a registered query strategy.
        options: its keyword arguments.
        one_off: ask for the whole budget at epoch 0; such an arm has one point on the learning curve, at the full budget.
        pseudo_labels: settings of the semi-supervised part; None switches it off.
        of_slices: with the unit ``slice``, replaces the benchmark's ``slices``, ``per_case``, ``axis``.
        trainer: trainer class; None for the benchmark's.
        name: the arm's name in tables; by default the shorthand that :func:`parse_arm` reads.
    """

    strategy: str
    options: dict[str, Any] = field(default_factory=dict)
    one_off: bool = False
    pseudo_labels: dict[str, Any] | None = None
    of_slices: dict[str, Any] = field(default_factory=dict)
    trainer: str | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            parts = [self.strategy, *([_ONE_OFF] if self.one_off else [])]
            parts += [_PSEUDO] if self.pseudo_labels is not None else []
            parts += [f"{key}={value}" for key, value in {**self.of_slices, **self.options}.items()]
            object.__setattr__(self, "name", ":".join(parts))
        if self.name in RESERVED:
            raise CampaignError(f"An arm cannot be called '{self.name}': that is the name of a reference.")
        for name in ("strategy", "options"):  # runs are repeated from other folders and on other machines
            object.__setattr__(self, name, found_from_anywhere(getattr(self, name)))
        get_strategy(self.strategy, **self.options)  # reports an unknown name or option before anything runs


@dataclass(frozen=True)
class Recipe:
    """One way to fine-tune, applied to every arm.

    Attributes:
        name: its name in tables.
        fine_tuning: keyword arguments of :class:`~nnunet_active.campaign.fine_tuning.FineTuning`; empty for the plain recipe.
        restart: ``never``, ``source``, or None (the trainer's own), see :class:`~nnunet_active.campaign.settings.Settings`.
        lr: initial learning rate; None for the benchmark's.
        trainer: trainer class; None for the arm's or the benchmark's.
    """

    name: str = "plain"
    fine_tuning: dict[str, Any] = field(default_factory=dict)
    restart: str | None = None
    lr: float | None = None
    trainer: str | None = None


@dataclass(frozen=True)
class Configuration:
    """A whole benchmark; the same content in a JSON file is what ``--config`` reads.

    Attributes:
        dataset, configuration, plans: the target, in nnU-Net's terms.
        arms: what is compared.
        recipes: ways of fine-tuning; every arm is run with each. By default the unit's default recipe.
        unit: what is asked for and counted, ``case`` or ``slice``.
        budget, query_size: cases or slices, in all and per query.
        per_case, slices, axis: see :class:`~nnunet_active.campaign.settings.Settings`; only with the unit ``slice``.
        stride: epochs between two queries.
        iterations, val_iterations: per epoch.
        epochs: length of a training; None for one stride per query.
        lr: initial learning rate; None for the trainer class's own.
        trainer: trainer class of all arms that name none.
        seeds: for the strategies' draws and the training's (order of patches, augmentation).
        folds: which splits into cases to choose from and test cases.
        splits: number of parts of nnU-Net's cross-validation; fold f is tested on part f.
        split_file: a ``splits_final.json`` that defines the folds instead.
        held_out: labelled cases that every run sets aside, drawn by its seed: never asked for, trained or tested on. They choose the
            interpolation of the recipe ``held_out``.
        all_labels: also train on all labels of the fold, once for every seed and recipe.
        device: as in ``nnUNetv2_train``.
        tolerance_mm: of the surface Dice.
        threads: for a run on a CPU.
    """

    dataset: str
    configuration: str
    arms: tuple[Arm, ...]
    recipes: tuple[Recipe, ...] = ()
    plans: str = DEFAULT_PLANS
    budget: int = 3
    query_size: int = 1
    stride: int = 4
    iterations: int = 10
    val_iterations: int = 1
    epochs: int | None = None
    lr: float | None = None
    trainer: str = "nnUNetTrainerActive"
    seeds: tuple[int, ...] = (0, 1, 2)
    folds: tuple[int, ...] = (0,)
    splits: int = 5
    split_file: str | None = None
    held_out: int = 0
    all_labels: bool = True
    device: str = "cuda"
    tolerance_mm: float = 2.0
    threads: int = 1
    unit: str = "case"
    per_case: int = PER_CASE
    slices: str = SLICE_RULES[0]
    axis: str = SLICE_AXES[0]

    def __post_init__(self) -> None:
        if not self.recipes:
            object.__setattr__(self, "recipes", (_recipe(default_recipe(self.unit)),))
        for what, names in (("arms", [arm.name for arm in self.arms]), ("recipes", [r.name for r in self.recipes])):
            double = sorted({name for name in names if names.count(name) > 1})
            if double:
                raise CampaignError(f"Two {what} are called {double[0]}; give one of them another name.")
        self._check_numbers()
        if self.held_out < FEWEST and any(FineTuning.of(r.fine_tuning).chosen_by_held_out for r in self.recipes):
            raise CampaignError(f"A recipe lets held-out cases choose; set {FEWEST} or more aside (--held-out).")
        if self.unit == "case" and any(arm.of_slices for arm in self.arms):
            raise CampaignError(f"An arm says how slices are chosen ({', '.join(_OF_SLICES)}); add --unit slice.")

    def _check_numbers(self) -> None:
        for name, lowest in _LOWEST.items():
            value = getattr(self, name)
            if not (name == "epochs" and value is None) and not _is_whole(value, lowest):
                raise CampaignError(
                    f"{_flag(name)} {value} makes no sense; it must be a whole number, at least {lowest}."
                )
        for name in ("tolerance_mm", "lr"):
            value = getattr(self, name)
            if not (name == "lr" and value is None) and not (_is_number(value) and 0 < value < math.inf):
                raise CampaignError(f"{_flag(name)} {value} makes no sense; it must be positive and finite.")
        for name in ("seeds", "folds"):
            values = getattr(self, name)
            if not values:
                raise CampaignError("A benchmark needs at least one seed and one fold.")
            for value in values:
                if not _is_whole(value, 0):
                    raise CampaignError(f"{_flag(name)} {value} makes no sense; it must be a whole number, at least 0.")
            if len(set(values)) < len(values):
                raise CampaignError(f"{_flag(name)} {' '.join(map(str, values))} names one twice; name each once.")

    def to_json(self) -> dict[str, Any]:
        """The content in JSON types."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Configuration:
        """Read back; arms and recipes may be given in shorthand.

        Raises:
            CampaignError: a key is unknown or missing, or a value makes no sense.
        """
        content = checked_settings(cls, "A benchmark", content, _FLAGS, _OF_OWN_FORM)
        try:
            for key, read in (("arms", _arm), ("recipes", _recipe), ("seeds", None), ("folds", None)):
                if not isinstance(values := content.get(key, ()), list | tuple):
                    raise CampaignError(f"The benchmark's setting '{key}' is {values!r}; it must be a list.")
                if key in content:
                    content[key] = tuple(map(read, values) if read else values)
            return cls(**content)
        except TypeError as error:
            raise CampaignError(f"The benchmark's settings cannot be used: {error}.") from error


def read_configuration(file: Path, **changes: Any) -> Configuration:
    """Read the JSON file of a benchmark and apply the command line's changes.

    Raises:
        MissingInput, CampaignError: the file is missing or unusable.
    """
    if not file.is_file():
        raise MissingInput(f"{file} was not found; it is the JSON file with the benchmark's settings.")
    try:
        content = json.loads(file.read_text())
    except (ValueError, RecursionError) as error:
        raise CampaignError(f"{file} is not JSON ({error}).") from error
    if not isinstance(content, dict):
        raise CampaignError(
            f"{file} is no JSON object; it must hold the benchmark's settings by name, as benchmark.json does."
        )
    return Configuration.from_json({**content, **changes})


def parse_arm(text: str) -> Arm:
    """An arm from its shorthand: ``STRATEGY[:one_off][:pseudo][:OPTION=VALUE ...]``.

    With the unit ``slice`` the options ``slices``, ``per_case`` and ``axis`` say how slices are chosen.

    >>> parse_arm("mmacts:one_off").one_off
    True
    >>> parse_arm("assft:pseudo:gap=drift").options
    {'gap': 'drift'}

    Raises:
        CampaignError: an unknown part, strategy or option.
    """
    strategy, *parts = colon_separated(text, (_ONE_OFF, _PSEUDO))
    options: dict[str, Any] = {}
    of_slices: dict[str, Any] = {}
    one_off, pseudo = False, None
    for part in parts:
        name, sign, value = part.partition("=")
        if part == _ONE_OFF:
            one_off = True
        elif part == _PSEUDO:
            pseudo = {}
        elif sign:
            (of_slices if name in _OF_SLICES else options)[name] = value_of(value)
        else:
            raise CampaignError(f"'{part}' in {text} is none of one_off, pseudo and OPTION=VALUE.")
    return Arm(strategy, options, one_off, pseudo, of_slices)


def _arm(content: str | dict[str, Any]) -> Arm:
    return parse_arm(content) if isinstance(content, str) else Arm(**checked_settings(Arm, "An arm", content))


def _recipe(content: str | dict[str, Any]) -> Recipe:
    if isinstance(content, str):
        return Recipe(content, recipe(content))
    return Recipe(**checked_settings(Recipe, "A recipe", content))


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any, lowest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= lowest
