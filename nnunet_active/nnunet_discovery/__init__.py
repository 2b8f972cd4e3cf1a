"""The folder that ``nnUNet_extTrainer`` points at: a single module that re-exports the trainers, so that nnU-Net imports no more."""

from pathlib import Path


def discovery_folder() -> Path:
    """This very folder."""
    return Path(__file__).resolve().parent
