"""Settings for fine-tuning the source network differently from the papers' plain recipe, and named recipes.

Every setting is off by default, and off changes nothing: the recipe ``plain`` is the papers', bit for bit. Without a named recipe,
``init`` uses that of :func:`default_recipe`. For the formulas, see :mod:`~nnunet_active.training.adaptation`, which implements them,
and ``docs/fine-tuning.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nnunet_active.campaign.settings import UNITS, refuse_unknown
from nnunet_active.util.errors import CampaignError
from nnunet_active.util.named_values import parse_options

RECIPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "averaged": {"ema_epochs": 4.0},
    "interpolated": {"interpolation": 0.5},
    "three_quarters": {"interpolation": 0.75},
    "held_out": {"interpolation": "held_out"},
    "guarded": {"interpolation": "guarded"},
}
"""Named sets of :class:`FineTuning` arguments; their values are our choice. ``plain`` is the papers' recipe."""

REMOVED_RECIPES = ("low_lr", "anchored", "gentle")
REMOVED = {"lr_factor": 1, "warmup_epochs": 0, "anchor": 0}
"""Settings of earlier versions with their neutral values; each lost more than it saved (``benchmarks/results/*other_recipes.csv``)."""

HELD_OUT = "held_out"
"""The value of ``interpolation`` that lets the held-out cases choose alpha."""

GUARDED = "guarded"
"""The value of ``interpolation`` that lets new labels choose alpha as they arrive."""

MIX = "mix"
"""The value of ``unlabelled`` that mixes labelled and unlabelled samples."""

MANY_MIXED = 2
"""Labelled cases from which on `GUARDED` goes far from the source if unlabelled cases are trained on
(:mod:`~nnunet_active.training.guarded_choice`)."""

DRAWS_BY_CHANCE = ("strata",)
"""Strategies that draw from the pool, and record with which probability."""
STANDS_FOR_THE_POOL = ("foreground_random", "random", *DRAWS_BY_CHANCE)
"""Strategies whose requests are drawn from the pool."""

UNTIL_CHOSEN = {HELD_OUT: 0.75, GUARDED: 0.25}
"""Alpha before the first choice."""

FEWEST = 2
"""Fewest held-out cases to choose by; with fewer, there is no standard error."""


@dataclass(frozen=True)
class FineTuning:
    """Settings of the fine-tuning.

    Attributes:
        ema_epochs: predict with an exponential average of the weights over about this many epochs of steps; 0 for no average.
        interpolation: alpha; the network predicts with w0 + alpha (w - w0), and 1 means the fine-tuned weights themselves. With
            `HELD_OUT`, the held-out cases choose alpha (:mod:`~nnunet_active.training.held_out_choice`); with `GUARDED`, new labels
            do, before they are trained on (:mod:`~nnunet_active.training.guarded_choice`).
        cross_fit: with `GUARDED`, also judge on labelled cases, by short trainings before the main one
            (:mod:`~nnunet_active.training.cross_fit`); None means yes, unless unlabelled cases are trained on as well and the
            labelled ones are drawn from them.
        unlabelled: `MIX` to train on unlabelled cases, too (:mod:`~nnunet_active.training.mixed_training`); empty for no.
        compare: compare source and adapted network on cases that were not trained on, after each round and at the end.

    Raises:
        CampaignError: a value is not valid.
    """

    ema_epochs: float = 0.0
    interpolation: float | str = 1.0
    cross_fit: bool | None = None
    unlabelled: str = ""
    compare: bool = True

    def __post_init__(self) -> None:
        for name in ("ema_epochs", *([] if self.is_chosen else ["interpolation"])):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise CampaignError(f"The fine-tuning setting {name} is {value!r}; give a number.")
            if not 0 <= value < float("inf"):
                raise CampaignError(f"The fine-tuning setting {name} is {value}; it cannot be negative or infinite.")
        if not 0 < self.first_interpolation <= 1:
            raise CampaignError(
                f"The fine-tuning setting interpolation is {self.interpolation}; it must be above 0 (the source network) and at "
                f"most 1 (the fine-tuned one)."
            )
        for name in ("compare", *(["cross_fit"] if self.cross_fit is not None else [])):
            if not isinstance(value := getattr(self, name), bool):
                raise CampaignError(f"The fine-tuning setting {name} is {value!r}; it is true or false.")
        if self.unlabelled not in ("", MIX):
            raise CampaignError(
                f"The fine-tuning setting unlabelled is {self.unlabelled!r}; it can be {MIX}, or be left out."
            )
        if self.cross_fit is not None and self.interpolation != GUARDED:
            raise CampaignError(
                "The fine-tuning setting cross_fit goes with the recipe guarded alone; take it out, or take --recipe guarded."
            )

    @property
    def chosen_by_held_out(self) -> bool:
        """Whether the held-out cases choose the interpolation."""
        return self.interpolation == HELD_OUT

    @property
    def is_chosen(self) -> bool:
        """Whether the interpolation is chosen during the training."""
        return isinstance(self.interpolation, str) and self.interpolation in UNTIL_CHOSEN

    @property
    def is_cross_fitted(self) -> bool:
        """Whether cross-fit networks may help to choose alpha."""
        return self.interpolation == GUARDED and self.cross_fit is not False

    @property
    def first_interpolation(self) -> float:
        """Alpha at the beginning, and as long as no case can choose it."""
        return UNTIL_CHOSEN[self.interpolation] if self.is_chosen else self.interpolation

    def cost(self) -> tuple[str, ...]:
        """How much longer than nnU-Net's own a training takes, in a sentence, where that is much."""
        if self.unlabelled != MIX:
            return ()
        return (
            "The training also learns from the unlabelled cases, which takes three to four times as long; with --recipe guarded it "
            "learns from the labelled ones alone.",
        )

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> FineTuning:
        """From the ``fine_tuning`` of a campaign's settings.

        Raises:
            CampaignError: a setting is unknown, is of an earlier version and not neutral, or has a value that is not valid.
        """
        for name, neutral in REMOVED.items():
            if options.get(name, neutral) != neutral:
                raise CampaignError(
                    f"The fine-tuning setting {name} ({options[name]}) is no longer there: it lost more than it saved. Take it out "
                    f"of 'fine_tuning' in campaign.json to go on without it, or start anew with another recipe (nnunet_active "
                    f"init ... --recipe averaged --restart)."
                )
        options = {name: value for name, value in options.items() if name not in REMOVED}
        refuse_unknown(options, cls, "There is no fine-tuning setting {}")
        return cls(**options)

    def ema_decay(self, iterations_per_epoch: int) -> float:
        """d = 1 - 1 / (ema_epochs * iterations), at least 0, so that the average covers about ``ema_epochs`` epochs."""
        steps = self.ema_epochs * iterations_per_epoch
        return 1 - 1 / steps if steps > 1 else 0.0

    def lines(self) -> list[str]:
        """The differences from the plain recipe, in words."""
        said = []
        if self.ema_epochs:
            said.append(f"predictions by the average of the weights over about {self.ema_epochs:g} epochs")
        if self.unlabelled:
            said.append("unlabelled cases are trained on as well, mixed with labelled ones")
        if self.chosen_by_held_out:
            said.append("held-out cases choose how far from the source to the fine-tuned the weights that predict are")
        elif self.is_chosen:
            said.append("new labels open the way from the source to the fine-tuned weights")
        elif self.interpolation != 1:
            said.append(
                f"predictions by weights that are {self.interpolation:.0%} of the way from the source to the fine-tuned"
            )
        return said


def default_recipe(unit: str = UNITS[0]) -> str:
    """The recipe if none is named, by the unit that is asked for (whole scans if that is unknown; the settings refuse it).

    Of more than 100 networks from whole scans and 40 from slices, 2 were worse than the source by more than 0.005, at most by 0.009. On
    both kinds of hearts, where adapting pays off, they were at most 0.01 behind the best fixed recipe. With slices, unlabelled cases
    added little for the time that they take (``docs/measured.md``).
    """
    return GUARDED if unit == "slice" else f"{GUARDED}:unlabelled={MIX}"


def recipe(text: str) -> dict[str, Any]:
    """The settings of ``RECIPE[:SETTING=VALUE ...]``, for :class:`~nnunet_active.campaign.settings.Settings`' ``fine_tuning``.

    Raises:
        CampaignError: there is no recipe of this name, or a setting is unknown or has no valid value.

    >>> recipe("guarded:unlabelled=mix:cross_fit=false")
    {'interpolation': 'guarded', 'unlabelled': 'mix', 'cross_fit': False}
    """
    name, *settings = text.split(":")
    if name in REMOVED_RECIPES:
        raise CampaignError(
            f"The fine-tuning recipe '{name}' is no longer there: it lost more than it saved; choose one of {', '.join(RECIPES)}."
        )
    if name not in RECIPES:
        raise CampaignError(f"There is no fine-tuning recipe '{name}'; choose one of {', '.join(RECIPES)}.")
    options = dict(RECIPES[name])
    options |= parse_options(f"The recipe {text}:", settings)
    FineTuning.of(options)
    return options
