"""Converts the plans of nnU-Net's own fine-tuning of self-supervised encoders (``ptPlans__...``, with a block ``pretrain_info``) to
stock plans.

These plans name architectures by nnssl's short names, which only that fine-tuning's trainers know, and hold the checkpoint's path on
the machine that made them.
"""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

from nnunet_active.models.nnssl_model import stock_architecture
from nnunet_active.util.errors import ActiveError, IncompatibleSource, MissingInput

_INFO = "pretrain_info"


def checkpoint_of_plans(file: Path) -> Path | None:
    """The checkpoint of nnssl that a plans file was made for; None if it names none.

    Raises:
        MissingInput: it names a checkpoint that does not exist.
    """
    try:
        plans = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    info = plans.get(_INFO) if isinstance(plans, dict) else None
    named = info.get("checkpoint_path") if isinstance(info, dict) else None
    if not isinstance(named, str):
        return None
    if not Path(named).is_file():
        raise MissingInput(
            f"{file} names the pre-trained checkpoint {named}, which is not there; name the checkpoint itself with -m."
        )
    return Path(named)


def as_stock_plans(plans: dict, where: str) -> dict:
    """The same plans for stock nnU-Net; plans of other models are returned unchanged.

    Args:
        plans: content of ``plans.json`` of a trained model.
        where: the model's name in messages.

    Raises:
        IncompatibleSource: the network is no convolutional U-Net.
        ActiveError: the plans are incomplete.
    """
    if not isinstance(plans.get(_INFO), dict):
        return plans
    stock = deepcopy({key: value for key, value in plans.items() if key != _INFO})
    try:
        for configured in stock["configurations"].values():
            # a configuration that inherits need not repeat what its parent says
            whole = not configured.get("inherits_from")
            if whole or "architecture" in configured:
                architecture = configured["architecture"]
                if "." not in str(architecture["network_class_name"]):
                    configured["architecture"] = stock_architecture(_as_described(architecture))
            if whole or "spacing" in configured:
                spacing = configured["spacing"]
                configured["spacing"] = None if spacing is None or None in spacing else spacing
    except IncompatibleSource as error:
        raise IncompatibleSource(f"{where}: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ActiveError(
            f"The plans of {where} are not complete ({type(error).__name__}: {error}); copy them again."
        ) from error
    return stock


def _as_described(architecture: dict) -> dict[str, Any]:
    """The architecture in the form of an adaptation plan."""
    return {"arch_class_name": architecture["network_class_name"], "arch_kwargs": architecture.get("arch_kwargs")}


def check_is_no_transformer(weights: dict, where: str) -> None:
    """Raises:
    IncompatibleSource: the weights are those of a Primus network.
    """
    if any(key.startswith("eva.") for key in weights):
        raise IncompatibleSource(
            f"{where} holds a Primus transformer, which has no convolutional encoder: it cannot be carried over; take a model with a "
            f"U-Net, e.g. of nnUNetTrainer."
        )
