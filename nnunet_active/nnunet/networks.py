"""Networks as nnU-Net builds them: trainer classes by name, and the names of the output channels."""

from __future__ import annotations

import contextlib
import inspect
import io
import warnings
from copy import deepcopy

import numpy as np
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.label_handling.label_handling import LabelManager, determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_active.util.errors import ActiveError, MissingInput


def head_names(plans: dict, dataset_json: dict) -> list[str]:
    """Names of the classes behind the network's output channels, in order.

    With labels: in the order of the label values, from ``background`` on, without the ignore label. With regions: the regions in
    the order of ``dataset.json``, without background.
    """
    manager = label_manager(plans, dataset_json)
    labels = {name: value for name, value in dataset_json["labels"].items() if name != "ignore"}
    if manager.has_regions:
        return [name for name, value in labels.items() if set(np.atleast_1d(value).tolist()) != {0}]
    by_value: dict[int, str] = {}
    for name, value in labels.items():
        by_value.setdefault(int(np.atleast_1d(value)[0]), name)
    return [by_value[value] for value in sorted(by_value)]


def plans_manager(plans: dict) -> PlansManager:
    """nnU-Net's plans manager on a copy of the plans, because it writes into them."""
    return PlansManager(deepcopy(plans))


def build_network(
    plans: dict,
    configuration: str,
    dataset_json: dict,
    trainer_name: str = "nnUNetTrainer",
    deep_supervision: bool = False,
) -> nn.Module:
    """Build the network that the trainer would build, freshly initialised, on the CPU.

    If no trainer of that name is found, the architecture in the plans is used, with a warning.

    Raises:
        MissingInput: the plans describe no network that can be built.
    """
    manager = plans_manager(plans)
    configured = manager.get_configuration(configuration)
    heads = label_manager(plans, dataset_json).num_segmentation_heads
    channels = determine_num_input_channels(manager, configured, dataset_json)
    trainer = find_trainer_class(trainer_name)
    if trainer is None:
        warnings.warn(f"The trainer {trainer_name} was not found; using the architecture in the plans.", stacklevel=2)
        trainer = nnUNetTrainer
    try:
        return _build(trainer, manager, configured, channels, heads, deep_supervision)
    except Exception as error:  # the architecture in the plans may raise any error for its arguments
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise MissingInput(
            f"The network of the configuration {configuration} in the plans {manager.plans_name} cannot be built ({said}); make "
            f"the plans again, or restore their file from a backup."
        ) from error


def _build(
    trainer: type[nnUNetTrainer],
    manager: PlansManager,
    configured: ConfigurationManager,
    channels: int,
    heads: int,
    deep_supervision: bool,
) -> nn.Module:
    build = trainer.build_network_architecture
    if "plans_manager" in inspect.signature(build).parameters:
        return build(manager, configured, channels, heads, enable_deep_supervision=deep_supervision)
    return build(  # trainers written for nnU-Net before 2.8
        configured.network_arch_class_name,
        configured.network_arch_init_kwargs,
        configured.network_arch_init_kwargs_req_import,
        channels,
        heads,
        enable_deep_supervision=deep_supervision,
    )


def find_trainer_class(name: str) -> type[nnUNetTrainer] | None:
    """The trainer class as nnU-Net finds it (its own ones, then ``nnUNet_extTrainer``), or None."""
    if name == "nnUNetTrainer":
        return nnUNetTrainer
    # nnU-Net imports every trainer on its way, and a failing one must not stop us
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
        return recursive_find_trainer_class_by_name(name)
    return None


def stock_ancestor(trainer: type[nnUNetTrainer]) -> type[nnUNetTrainer]:
    """The nearest class in a trainer's ancestry, itself included, that is part of nnU-Net."""
    return next(ancestor for ancestor in trainer.__mro__ if ancestor.__module__.split(".")[0] == "nnunetv2")


def stock_trainer_name(name: str) -> str:
    """Name of a trainer's nearest stock ancestor, so that the model can predict where only nnU-Net is installed."""
    return stock_ancestor(find_trainer_class(name) or nnUNetTrainer).__name__


def label_manager(plans: dict, dataset_json: dict) -> LabelManager:
    """nnU-Net's label manager for these plans; turns its errors about dataset.json into an `ActiveError`."""
    if not isinstance(dataset_json.get("labels"), dict):
        raise ActiveError('dataset.json names no labels; add "labels": {"background": 0, "tumour": 1, ...} to it.')
    try:
        if "label_manager" not in plans or PlansManager(plans).label_manager_class is None:
            plans = {**plans, "label_manager": "LabelManager"}
        return PlansManager(plans).get_label_manager(dataset_json)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise ActiveError(f"The labels in dataset.json cannot be used: {error}") from error
