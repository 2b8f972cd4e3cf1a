"""The folder that ``nnUNet_extTrainer`` points at: a single module re-exports the trainers, so that nnU-Net imports nothing else."""

import os
from pathlib import Path

VARIABLE = "nnUNet_extTrainer"


def discovery_folder() -> Path:
    """This folder."""
    return Path(__file__).resolve().parent


def listed_folders(value: str | None = None) -> list[str]:
    """The folders in ``nnUNet_extTrainer`` (separated by ``:``), by default as the environment sets it."""
    value = os.environ.get(VARIABLE, "") if value is None else value
    return [folder for folder in value.split(os.pathsep) if folder.strip()]


def is_listed(value: str | None = None) -> bool:
    """Whether this folder is among them, so that ``nnUNetv2_train -tr`` finds our trainers."""
    return discovery_folder() in [Path(folder).resolve() for folder in listed_folders(value)]


def with_own_folder(value: str | None = None) -> str:
    """The variable's value with this folder first; the others stay."""
    return os.pathsep.join(dict.fromkeys([str(discovery_folder()), *listed_folders(value)]))


def export_line(value: str | None = None) -> str:
    """What to type in a shell, once, so that ``nnUNetv2_train`` finds our trainers as well as those that it already finds."""
    others = f"{os.pathsep}${VARIABLE}" if listed_folders(value) else ""
    return f'export {VARIABLE}="$(nnunet_active trainers){others}"'
