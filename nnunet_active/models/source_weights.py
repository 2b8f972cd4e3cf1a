"""Find the source network of a campaign."""

from __future__ import annotations

from pathlib import Path

from nnunet_active.models.source_model import SourceModel, read_source_model, source_folder
from nnunet_active.util.errors import MissingInput


def find_source(dataset_folder: Path, plans: str, configuration: str, fold: str, results: Path | None) -> SourceModel:
    """The source network: the one kept beside the plans, else the user's own stock training of this very dataset and fold.

    Args:
        dataset_folder: ``nnUNet_preprocessed/DatasetXXX``.
        plans: plans identifier.
        configuration: nnU-Net configuration.
        fold: number as text, or ``all``.
        results: ``nnUNet_results``.

    Raises:
        MissingInput: there is none; says how to name one.
    """
    kept = source_folder(dataset_folder, plans, configuration)
    if kept.is_dir():
        return read_source_model(kept, configuration)
    if results is not None:
        own = results / dataset_folder.name / f"nnUNetTrainer__{plans}__{configuration}"
        if (own / f"fold_{fold}" / "checkpoint_final.pth").is_file():
            return read_source_model(own, configuration, fold)
    raise MissingInput(
        f"No source network was found in {kept}; name the trained model with nnunet_active plan -d {dataset_folder.name} "
        f"-m MODEL -c {configuration}, or, for plans that exist already, with nnunet_active init -d {dataset_folder.name} "
        f"-c {configuration} -p {plans} -m MODEL."
    )
