"""Finds the network that queries between trainings: a model that the user names, the campaign's latest one, or the source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from nnunet_active.models.source_model import SourceModel, carry_over
from nnunet_active.nnunet.ensemble_window import EnsembleWindow
from nnunet_active.nnunet.inference import SlidingWindow
from nnunet_active.nnunet.networks import build_network
from nnunet_active.nnunet.nnunet_paths import results_root
from nnunet_active.nnunet.safe_checkpoint import weights_digest
from nnunet_active.rounds.trained_models import Training, covered_folds, missed_labels, trainings_of
from nnunet_active.util.errors import MissingInput
from nnunet_active.workspace import Workspace


@dataclass(frozen=True)
class FoundModel:
    """One network, or several whose probabilities are averaged.

    Attributes:
        models: the models read, one per fold.
        kind: ``named`` by the user, ``own`` (trained in this campaign) or ``source``.
        notes: sentences about the choice.
    """

    models: tuple[SourceModel, ...]
    kind: str
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The choice in words, for people."""
        what = {"named": "The model that you named", "own": "The campaign's own model", "source": "The source network"}
        folds = ", ".join(model.fold for model in self.models)
        mean = f", mean of the probabilities of folds {folds}" if len(self.models) > 1 else f", fold {folds}"
        return [f"{what[self.kind]} asks: {self.models[0].origin}{mean}.", *self.notes]

    def record(self) -> dict:
        """The entry in ``selection.json``: identifies the weights, without any path of this machine."""
        return {
            "kind": self.kind,
            "trainer": self.models[0].trainer_name,
            "folds": [model.fold for model in self.models],
            "weights": [weights_digest(model.weights) for model in self.models],
        }


def find_models(
    workspace: Workspace,
    model: Path | None = None,
    folds: Sequence[str] | None = None,
    trust: bool = False,
    unfinished: bool = False,
) -> FoundModel:
    """Find the network that queries.

    Args:
        workspace: gives the campaign's own trainings and the source network.
        model: a trained model folder, a ``fold_X`` folder or checkpoint in it, or an exported zip; takes precedence over all else.
        folds: folds of the model; by default the lowest fold of a named model, or all trained folds of the campaign's own model.
        trust: see :func:`~nnunet_active.models.source_model.read_source_model`.
        unfinished: also accept a training that was stopped, e.g. to wait for the labels that it asked for.

    Raises:
        MissingInput, IncompatibleSource, UnsafeCheckpoint: see the message.
    """
    if model is not None:
        read = [workspace.model(model, fold, trust=trust) for fold in folds or [None]]
        return FoundModel(tuple(read), "named", read[0].notes if folds is None else ())
    trainings = [
        one
        for one in trainings_of(workspace.campaign, results_root())
        if (one.finished or unfinished) and not one.problem
    ]
    if trainings:
        return _own(workspace, trainings, folds)
    return FoundModel((workspace.source,), "source")


def make_window(found: FoundModel, workspace: Workspace, device: torch.device) -> SlidingWindow | EnsembleWindow:
    """A window on the networks, carried over to the target as a training carries over its source.

    Raises:
        IncompatibleSource: the model does not fit the target's plans.
    """
    plans, configuration, dataset_json = workspace.plans, workspace.configuration, workspace.dataset_json
    windows = []
    for model in found.models:
        # heads and channels that the model lacks start with random weights; the seed makes them the same each time
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = build_network(plans, configuration, dataset_json, model.trainer_name)
        carry_over(network, model, plans, dataset_json)
        windows.append(
            SlidingWindow(network.eval().to(device), plans, configuration, dataset_json, device, model.mirror_axes)
        )
    return windows[0] if len(windows) == 1 else EnsembleWindow(windows)


def _own(workspace: Workspace, trainings: list[Training], folds: Sequence[str] | None) -> FoundModel:
    campaign = workspace.campaign
    newest = trainings[0]
    mine = {one.fold: one for one in reversed(trainings) if one.trainer == newest.trainer}
    if folds is None:  # prefer the folds that know all labels, if there are any
        mine = {fold: one for fold, one in mine.items() if not missed_labels(campaign, one).missing} or mine
    if folds is not None and (absent := [fold for fold in folds if fold not in mine]):
        raise MissingInput(
            f"{newest.trainer} has not trained fold {', '.join(absent)} of this campaign; trained: {', '.join(mine)}."
        )
    chosen = [mine[fold] for fold in folds or covered_folds(campaign) if fold in mine]
    missing = sorted({case for one in chosen for case in missed_labels(campaign, one).missing})
    notes = (
        (f"It was not trained on {', '.join(missing)} yet: a training first makes a better query.",) if missing else ()
    )
    read = [workspace.model(one.model_folder, one.fold, one.checkpoint.name) for one in chosen]
    return FoundModel(tuple(read), "own", notes)
