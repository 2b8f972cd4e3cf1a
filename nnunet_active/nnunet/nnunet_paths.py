"""nnU-Net's folders: environment variables and data set names, found as nnU-Net finds them, with errors that say what to do."""

from __future__ import annotations

import os
from pathlib import Path

from nnunet_active.util.errors import MissingInput


def _root(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        raise MissingInput(
            f"The environment variable {variable} is not set; set it to the folder that nnU-Net uses, "
            f"e.g. export {variable}=/path/to/{variable}."
        )
    if value[0] in "~\"'" and not Path(value).is_dir():
        raise MissingInput(
            f"The environment variable {variable} is {value}, which is no folder: the shell has not taken ~ or the quotation marks for "
            f"what they mean; write the whole path, without them."
        )
    return Path(value)


def raw_root() -> Path:
    """The folder ``nnUNet_raw`` (read when called, so that a changed environment is noticed)."""
    return _root("nnUNet_raw")


def preprocessed_root() -> Path:
    """The folder ``nnUNet_preprocessed``."""
    return _root("nnUNet_preprocessed")


def results_root() -> Path:
    """The folder ``nnUNet_results``."""
    return _root("nnUNet_results")


def known_roots() -> list[Path]:
    """Those of the three folders that the environment sets."""
    return [
        Path(value)
        for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
        if (value := os.environ.get(name))
    ]


_VARIABLES = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


def datasets_with_number(number: int) -> list[str]:
    """Full names of the data sets with that number in any of nnU-Net's folders."""
    found: set[str] = set()
    for variable in _VARIABLES:
        if (value := os.environ.get(variable)) and os.path.isdir(value):
            with os.scandir(value) as entries:
                found |= {one.name for one in entries if one.name.startswith(f"Dataset{number:03d}") and one.is_dir()}
    return sorted(found)


def dataset_name(id_or_name: str | int) -> str:
    """Full name of a data set, e.g. ``Dataset204_GliomaTarget`` from ``204``, ``"204"`` or the name itself.

    Raises:
        MissingInput: no data set, or more than one, has that number; or none has that name.
    """
    text = str(id_or_name)
    if text.startswith("Dataset"):
        roots = [value for variable in _VARIABLES if (value := os.environ.get(variable))]
        if roots and not any((Path(root) / text).is_dir() for root in roots):
            raise MissingInput(_found_nowhere(text))
        return text
    if not text.isdecimal():
        raise MissingInput(f"-d {text} is neither a data set number nor a name such as Dataset204_GliomaTarget.")
    found = datasets_with_number(int(text))
    if not found:
        raise MissingInput(_found_nowhere(f"Dataset{int(text):03d}_*"))
    if len(found) > 1:
        raise MissingInput(f"Data set number {text} is used by {', '.join(found)}; give the full name with -d.")
    return found[0]


def _found_nowhere(what: str) -> str:
    places = [f"{name} ({_root(name) if os.environ.get(name) else 'not set'})" for name in _VARIABLES]
    return f"No folder {what} was found in {', '.join(places)}; check the data set's number or name and the environment variables."


def raw_folder(dataset: str) -> Path:
    """``nnUNet_raw/<dataset>``, which must hold a ``dataset.json``.

    Raises:
        MissingInput: the folder or its ``dataset.json`` does not exist.
    """
    folder = raw_root() / dataset
    if not (folder / "dataset.json").is_file():
        raise MissingInput(
            f"{folder / 'dataset.json'} was not found; put the target scans there in nnU-Net's raw format "
            f"(imagesTr/CASE_0000.nii.gz ..., labelsTr/CASE.nii.gz, dataset.json)."
        )
    return folder


def preprocessed_folder(dataset: str) -> Path:
    """``nnUNet_preprocessed/<dataset>``; it may not exist yet."""
    return preprocessed_root() / dataset
