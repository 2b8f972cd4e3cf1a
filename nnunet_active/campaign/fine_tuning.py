"""How the source network is fine-tuned beside the papers' plain recipe: settings, and sets of them that have a name.

Every setting alone is off by default, and off means untouched: the recipe ``plain`` is the papers', bit for bit. What ``init`` takes
where nothing is said is `DEFAULT_RECIPE`. The formulas are in the module that carries them out,
:mod:`~nnunet_active.training.adaptation`, and in ``docs/fine-tuning.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nnunet_active.campaign.settings import refuse_unknown
from nnunet_active.util.errors import CampaignError

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
"""Settings of earlier versions with their neutral values: measured, each lost more than it saved (``docs/measured.md``)."""

HELD_OUT = "held_out"
"""The value of ``interpolation`` that leaves it to the held-out cases."""

GUARDED = "guarded"
"""The value of ``interpolation`` that leaves it to the labels as they come."""

MIX = "mix"
"""The value of ``unlabelled`` that mixes labelled and unlabelled samples."""

UNTIL_CHOSEN = {HELD_OUT: 0.75, GUARDED: 0.25}
"""Alpha until somebody has chosen it."""

FEWEST = 2
"""Held-out cases below which nothing can be chosen by them: there is no standard error."""

DEFAULT_RECIPE = "guarded"
"""What is taken where nothing is said: after one query of slices or of three whole scans never worse than the source by more than
0.005, and at most 0.01 behind the best fixed way where adapting pays (``docs/measured.md``)."""


@dataclass(frozen=True)
class FineTuning:
    """Settings of the fine-tuning.

    Attributes:
        ema_epochs: the weights that predict are an exponential average over about so many epochs of steps; 0: the weights themselves.
        interpolation: alpha; the weights that predict are w0 + alpha (w - w0); 1: the fine-tuned ones themselves; `HELD_OUT`: the
            held-out cases choose alpha (:mod:`~nnunet_active.training.held_out_choice`); `GUARDED`: new labels do, before they are
            trained on (:mod:`~nnunet_active.training.guarded_choice`).
        cross_fit: with `GUARDED`, short trainings before the training let the labelled cases judge as well
            (:mod:`~nnunet_active.training.cross_fit`); None: they do.
        unlabelled: `MIX`: unlabelled cases are trained on as well (:mod:`~nnunet_active.training.mixed_training`); empty: they are not.
        compare: after each round and at the end, compare source and adapted network on cases that were not trained on.

    Raises:
        CampaignError: a value that makes no sense.
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
                f"The fine-tuning setting unlabelled is {self.unlabelled!r}; it can be {MIX}, or be left away."
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
        """Whether the interpolation is chosen in the training."""
        return isinstance(self.interpolation, str) and self.interpolation in UNTIL_CHOSEN

    @property
    def is_cross_fitted(self) -> bool:
        """Whether cross-fit networks judge."""
        return self.interpolation == GUARDED and self.cross_fit is not False

    @property
    def first_interpolation(self) -> float:
        """Alpha at the beginning, and where there is nobody to choose it."""
        return UNTIL_CHOSEN[self.interpolation] if self.is_chosen else self.interpolation

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> FineTuning:
        """From the ``fine_tuning`` of a campaign's settings.

        Raises:
            CampaignError: an unknown setting, one of an earlier version that is not neutral, or a value that makes no sense.
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
        """d = 1 - 1 / (ema_epochs * iterations), at least 0: the average then reaches back over about ``ema_epochs`` epochs."""
        steps = self.ema_epochs * iterations_per_epoch
        return 1 - 1 / steps if steps > 1 else 0.0

    def lines(self) -> list[str]:
        """What differs from the plain recipe, for people."""
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


def recipe(name: str) -> dict[str, Any]:
    """The settings of a named recipe, for :class:`~nnunet_active.campaign.settings.Settings`' ``fine_tuning``.

    Raises:
        CampaignError: there is none of this name.
    """
    if name in REMOVED_RECIPES:
        raise CampaignError(
            f"The fine-tuning recipe '{name}' is no longer there: it lost more than it saved; choose one of {', '.join(RECIPES)}."
        )
    if name not in RECIPES:
        raise CampaignError(f"There is no fine-tuning recipe '{name}'; choose one of {', '.join(RECIPES)}.")
    return dict(RECIPES[name])
