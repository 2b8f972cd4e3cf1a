"""The ways to adapt that the demo compares, and the number of slices of a scan that an expert has to draw in."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from nnunet_active.campaign.fine_tuning import recipe
from nnunet_active.campaign.settings import Settings
from nnunet_active.data.dataset_json import ignore_value
from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.data.slice_map import AXES, NUMPY_AXIS, choose_axis

RECIPE = "three_quarters"
"""Every way has the same recipe, because the demo compares what is labelled."""

MMACTS, SLICES, EVERYTHING = "mmActS", "slices", "all labels"


@dataclass(frozen=True)
class Plan:
    """How long the adaptations train; the queries are spread evenly over the epochs."""

    budget: int = 3
    epochs: int = 9
    iterations: int = 50
    seed: int = 0
    random_draws: int = 1

    @property
    def stride(self) -> int:
        """Epochs between two queries."""
        return max(1, self.epochs // max(1, self.budget))  # the settings refuse a budget of 0

    def settings(self, **own: object) -> Settings:
        """Settings of one campaign; whatever ``own`` does not set is the same in all."""
        common = {
            "oracle": "retrospective",
            "stride": self.stride,
            "epochs": self.epochs,
            "iterations": self.iterations,
        }
        chosen = {"budget": self.budget, "seed": self.seed, "val_iterations": 2, **common, **own}
        return Settings(fine_tuning=recipe(RECIPE), **chosen)


def ways_to_adapt(plan: Plan, train: Iterable[str], drawn: Mapping[str, int]) -> dict[str, Settings]:
    """Settings by name: whole scans at random, whole scans by mmActS, as many slices of more scans, and all labels.

    Args:
        plan: how long they train.
        train: the cases to choose from.
        drawn: for each case the slices with foreground, see :func:`slices_with_foreground`; empty if scans have no slices. Their mean
            times the budget is the number of slices to ask for, so that the expert draws as much as for whole scans.
    """
    train = sorted(train)
    names = [f"random {n + 1}" for n in range(plan.random_draws)] if plan.random_draws > 1 else ["random"]
    ways = {
        name: plan.settings(strategy="random", seed=plan.seed + n) for n, name in enumerate(names[: plan.random_draws])
    }
    ways[MMACTS] = plan.settings(strategy="mmacts")
    budget = round(plan.budget * float(np.mean([drawn[case] for case in train]))) if drawn else 0
    if budget:
        size = math.ceil(budget / plan.budget)
        ways[SLICES] = plan.settings(strategy="foreground_random", unit="slice", budget=budget, query_size=size)
    ways[EVERYTHING] = plan.settings(strategy="random", budget=len(train), one_off=True)
    return ways


def slices_with_foreground(dataset: RawDataset, cases: Iterable[str]) -> dict[str, int]:
    """Number of slices with foreground in each label, along the axis of the slices to ask for; empty for 2-D images."""
    ignore = ignore_value(dataset.dataset_json)
    found = {}
    for case in cases:
        label = sitk.ReadImage(str(dataset.cases[case].label))
        if label.GetDimension() < 3:
            return {}
        axis = NUMPY_AXIS[choose_axis(dict(zip(AXES, label.GetSpacing(), strict=True)))]
        voxels = sitk.GetArrayViewFromImage(label)
        foreground = (voxels > 0) & (voxels != (-1 if ignore is None else ignore))
        others = tuple(number for number in range(3) if number != axis)
        found[case] = int(foreground.any(axis=others).sum())
    return found
