"""Computes weights nearer to the source than an adapted model's own, from its checkpoint and the source network."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path

import torch

from nnunet_active.models.source_model import SourceModel, carry_over
from nnunet_active.nnunet.checkpoint_record import checkpoint_record
from nnunet_active.nnunet.networks import build_network
from nnunet_active.nnunet.safe_checkpoint import load_checkpoint, network_weights, weights_digest
from nnunet_active.training.checkpoints import own_details
from nnunet_active.training.weights import Weights, interpolate, live_weights
from nnunet_active.util.errors import ActiveError, MissingInput

NEAR = 0.25
"""How far from the source the nearer weights are; ``benchmarks/guard.py`` evaluated the guard with this value."""

STOCK = "predict with nnUNetv2_predict"


@dataclass(frozen=True)
class NearerWeights:
    """State dicts of networks for the target.

    Attributes:
        source: w0, the source network as carried over to the target.
        nearer: w0 + a (w - w0) with the trained weights w and a = min(`NEAR`, alpha).
        alpha: interpolation of the model itself.
        is_source: whether the model itself is the source network.
    """

    source: Weights
    nearer: Weights
    alpha: float
    is_source: bool

    @property
    def differ(self) -> bool:
        """Whether the model is further from the source than ``nearer``."""
        return self.alpha > NEAR


def check_is_adapted(file: Path) -> dict:
    """Content of a checkpoint that one of our trainers wrote.

    Raises:
        MissingInput: the file was not found, or another trainer wrote it.
        ActiveError: the file cannot be read without running code from it.
    """
    if not file.is_file():
        others = " or ".join(f"-tr {trainer}" for trainer in _other_trainers(file))
        instead = f"name the trainer that wrote one ({others}), " if others else ""
        raise MissingInput(
            f"{file} was not found; {instead}train that fold to its end, or name another fold (-f) or checkpoint (-chk)."
        )
    content = load_checkpoint(file, str(file), advice=f"if you trust where it comes from, {STOCK}")
    if not own_details(content):
        raise MissingInput(
            f"{file} was not written by a trainer of this package, so no source network is known to guard its predictions; {STOCK}."
        )
    return content


def _other_trainers(file: Path) -> list[str]:
    """Trainers of this package that have written such a checkpoint of this fold, with the same plans and configuration."""
    plans_and_configuration = file.parents[1].name.partition("__")[2]
    found = file.parents[2].glob(
        f"*__{glob.escape(plans_and_configuration)}/{file.parent.name}/{glob.escape(file.name)}"
    )
    return sorted(one.parents[1].name.split("__")[0] for one in found if _is_ours(one))


def _is_ours(file: Path) -> bool:
    try:
        return bool(own_details(checkpoint_record(file)))
    except (ActiveError, OSError):
        return False


def nearer_weights(content: dict, where: str, source: SourceModel, plans: dict, dataset_json: dict) -> NearerWeights:
    """The weights for the guard.

    Args:
        content: content of the checkpoint; see :func:`check_is_adapted`.
        where: name of the checkpoint in messages.
        source: the source network.
        plans, dataset_json: of the adapted model.

    Raises:
        ActiveError: the source has no output for the target's labels, or the model was adapted from another source.
    """
    weights, details = network_weights(content, where), own_details(content)
    network = build_network(plans, source.configuration, dataset_json)
    report = carry_over(network, source, plans, dataset_json)
    if not report.head_trained:
        raise ActiveError(
            f"The source network {source.origin} has no output for the labels of {where}, so it cannot guard a prediction; {STOCK}."
        )
    own = network.state_dict()
    free = report.head if None in report.heads.indices else ()
    alpha = float(details.get("interpolation", 1.0))
    trained = details.get("averaged_weights") or details.get("trained_weights")
    expected = interpolate(own, trained, alpha, free) if trained and alpha < 1 else {}
    from_here = free or details.get("source") in (None, weights_digest(live_weights(network)))
    fits = own.keys() == weights.keys() and all(own[name].shape == weights[name].shape for name in own)
    if not (from_here and fits) or not all(
        torch.allclose(weights[name], tensor, atol=1e-5) for name, tensor in expected.items()
    ):
        raise ActiveError(
            f"{where} was not adapted from the source network {source.origin}, which is there now; {STOCK}."
        )
    share = min(1.0, NEAR / alpha) if alpha > 0 else 1.0
    return NearerWeights(own, interpolate(own, weights, share, free), alpha, alpha == 0 and not free)
