"""Writes checkpoints atomically, in a form that stock nnU-Net can read without this package."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_active.nnunet.checkpoint_record import FINAL, LATEST, PREVIOUS, latest_is_newer
from nnunet_active.nnunet.networks import stock_ancestor
from nnunet_active.util.atomic import copy_file, write_json


def name_in_checkpoint(trainer_class: type[nnUNetTrainer]) -> str:
    """Name of the nearest ancestor that ships with nnU-Net and builds the same network; else the class's own name.

    ``nnUNetv2_predict`` builds the network with the trainer class that the checkpoint names. Our trainers train stock networks, so
    naming the stock ancestor lets a colleague predict without this package.
    """
    ancestor = stock_ancestor(trainer_class)
    same = ancestor.build_network_architecture is trainer_class.build_network_architecture
    return ancestor.__name__ if same else trainer_class.__name__


def restamp(temporary: Path, final: Path, trainer_class: type[nnUNetTrainer], details: dict) -> None:
    """Name the stock ancestor as the trainer of a fresh checkpoint, then move it to its place in one step.

    Args:
        temporary: what the stock ``save_checkpoint`` wrote, in the folder of ``final``.
        final: where it belongs.
        trainer_class: class of the trainer that wrote it.
        details: added under the key ``nnunet_active``; nnU-Net ignores keys that it does not know.
    """
    checkpoint = torch.load(temporary, map_location="cpu", weights_only=False)  # written by this very process
    checkpoint["trainer_name"] = name_in_checkpoint(trainer_class)
    checkpoint["nnunet_active"] = {"trainer_name": trainer_class.__name__, **details}
    torch.save(checkpoint, temporary)
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(final)


def own_details(checkpoint: dict) -> dict:
    """What :func:`restamp` added to a checkpoint; empty if another package's trainer wrote it."""
    return checkpoint.get("nnunet_active", {})


def describe_model(folder: Path, plans: dict, dataset_json: dict, fingerprint: Path) -> None:
    """Write the files that a model folder needs beside its checkpoints. nnU-Net does so as an epoch begins; a training may stop before.

    Args:
        folder: ``<trainer>__<plans>__<configuration>`` in the results.
        plans: content of the plans file.
        dataset_json: of the target, as preprocessed.
        fingerprint: ``dataset_fingerprint.json`` of the preprocessed data set; copied if it exists.
    """
    write_json(folder / "plans.json", plans)
    write_json(folder / "dataset.json", dataset_json)
    if fingerprint.is_file():
        copy_file(fingerprint, folder / fingerprint.name)


def make_way(written: Path) -> None:
    """Rename an earlier training's final checkpoint once the new training saves its first one; delete it when the new one ends.

    ``nnUNetv2_train --c`` prefers a final checkpoint to the latest one. It would take the earlier training's for this one's.
    """
    if written.name == LATEST and (written.parent / FINAL).is_file():
        (written.parent / FINAL).replace(written.parent / PREVIOUS)
    elif written.name == FINAL:
        (written.parent / PREVIOUS).unlink(missing_ok=True)


def meant_by(found: Path) -> Path:
    """The checkpoint to resume from when nnU-Net found ``found``; a kill may have come just before :func:`make_way`."""
    if found.name != FINAL or not latest_is_newer(found.parent):
        return found
    latest = found.with_name(LATEST)
    make_way(latest)
    return latest
