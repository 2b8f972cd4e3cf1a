"""Write a network as a stock model folder, which nnU-Net's predictor reads."""

from __future__ import annotations

from pathlib import Path

import torch

from nnunet_active.models.model_files import DEFAULT_CHECKPOINT
from nnunet_active.models.source_model import SUMMARY, SourceModel
from nnunet_active.util.atomic import atomic_file, replaced_folder, write_json


def save_source_model(source: SourceModel, folder: str | Path) -> None:
    """Write ``source`` as a stock model folder that ``nnUNetv2_predict_from_modelfolder`` reads; no optimizer state.

    The folder holds ``plans.json``, ``dataset.json``, ``dataset_fingerprint.json`` and ``source_summary.npz`` (if the source has them)
    and ``fold_X/checkpoint_final.pth``. It appears whole; an existing folder is replaced only when the new one is complete.
    """
    with replaced_folder(folder) as new:
        write_json(new / "plans.json", source.plans)
        write_json(new / "dataset.json", source.dataset_json)
        if source.fingerprint is not None:
            write_json(new / "dataset_fingerprint.json", source.fingerprint)
        if source.summary is not None:
            (new / SUMMARY).write_bytes(source.summary)
        write_checkpoint(source, new / f"fold_{source.fold}" / DEFAULT_CHECKPOINT, source.trainer_name)


WRITTEN_BY = "written_by"


def write_checkpoint(source: SourceModel, file: Path, trainer_name: str, written_by: str = "") -> None:
    """Write the weights as a checkpoint that nnU-Net's predictor reads: no optimizer, no log, no path of this machine.

    It records ``written_by``, so that this output can later be told from somebody else's file.
    """
    fold: int | str = int(source.fold) if source.fold.isdigit() else source.fold
    content = {
        "network_weights": source.weights,
        "init_args": {
            "plans": source.plans,
            "configuration": source.configuration,
            "fold": fold,
            "dataset_json": source.dataset_json,
        },
        "trainer_name": trainer_name,
        **({} if source.mirror_axes is None else {"inference_allowed_mirroring_axes": source.mirror_axes or None}),
    }
    if written_by:
        content[WRITTEN_BY] = written_by
    if source.encoder_only:
        content["nnunet_active"] = {"encoder_only": True}  # nnU-Net ignores unknown keys
    with atomic_file(file) as temporary:
        torch.save(content, temporary)
