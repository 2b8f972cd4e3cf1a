"""Plans files, checked as far as this package relies on them; read without nnU-Net, whose own reader takes seconds to import."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_active.nnunet.nnunet_paths import preprocessed_folder
from nnunet_active.util.atomic import write_json
from nnunet_active.util.errors import MissingInput
from nnunet_active.util.state_file import conforms, read_checked_json


def read_plans(dataset: str, plans: str) -> dict:
    """Content of ``nnUNet_preprocessed/<dataset>/<plans>.json``.

    Raises:
        MissingInput: it does not exist (the message says which command makes it), or its ``plans_name`` is not its file name.
    """
    file = preprocessed_folder(dataset) / f"{plans}.json"
    if not file.is_file():
        raise MissingInput(
            f"{file} was not found; make it with nnunet_active plan -d {dataset} -m SOURCE_MODEL, or, for plans of the "
            f"dataset's own, with nnUNetv2_plan_and_preprocess."
        )
    content = read_plans_file(file)
    inside = content.get("plans_name", plans)
    if inside != plans:  # nnU-Net finds the plans by the file name but names the results folder by plans_name
        raise MissingInput(
            f'{file} calls itself {inside} inside ("plans_name"), and nnU-Net would write its results under that name; set '
            f'"plans_name": "{plans}" in it, or name the file {inside}.json and use -p {inside}.'
        )
    if (whose := content.get("dataset_name", dataset)) != dataset:
        raise MissingInput(
            f'{file} says that it belongs to {whose} ("dataset_name"), and nnU-Net would train there; bring plans along with '
            f'nnUNetv2_move_plans_between_datasets, or set "dataset_name": "{dataset}" in it.'
        )
    return content


def complete_plans(dataset_folder: Path, plans: dict, dataset_json: dict) -> None:
    """Write what nnU-Net's training reads beside the plans, ``dataset.json`` and ``dataset_fingerprint.json``, unless it is there.

    ``nnUNetv2_move_plans_between_datasets``, or a person, may have brought the plans alone.
    """
    for name, content in ("dataset.json", dataset_json), ("dataset_fingerprint.json", fingerprint_of(plans)):
        if not (dataset_folder / name).is_file():
            write_json(dataset_folder / name, content)


def fingerprint_of(plans: dict) -> dict:
    """What plans tell of the fingerprint that they were made from; stock trainers only copy the file."""
    key = "foreground_intensity_properties_per_channel"
    of_first_plans = "foreground_intensity_properties_by_modality"  # the name in the first plans of nnU-Net v2
    found = plans.get(key, plans.get(of_first_plans, {}))
    return {key: found, "median_relative_size_after_cropping": 1.0, "shapes_after_crop": [], "spacings": []}


@dataclass
class _Configuration:
    """The fields that every configuration has, after inheritance."""

    data_identifier: str
    preprocessor_name: str
    spacing: list[float]
    patch_size: list[int]
    batch_size: int
    normalization_schemes: list[str]


@dataclass
class _Plans:
    plans_name: str
    configurations: dict[str, dict[str, Any]]
    image_reader_writer: str
    transpose_forward: list[int]
    transpose_backward: list[int]
    dataset_name: str = ""


def read_plans_file(file: Path) -> dict:
    """Content of a plans file, checked as far as this package relies on it.

    Raises:
        MissingInput: it is damaged; the message says what was found.
    """
    what, advice = "a plans file of nnU-Net's", "make it again with nnunet_active plan, or restore it from a backup"
    content = read_checked_json(file, _Plans, what, advice, MissingInput)
    for name in content["configurations"]:
        try:
            configuration = configuration_of(content, name)
        except MissingInput as error:
            raise MissingInput(f"{file} is not {what} ({str(error).rstrip('.')}); {advice}.") from error
        reason = conforms(configuration, _Configuration)
        if not reason and not configuration.keys() & {
            "architecture",
            "UNet_class_name",
        }:  # the second is from older plans
            reason = "architecture: field required"
        if reason:
            raise MissingInput(f"{file} is not {what} (configurations.{name}.{reason}); {advice}.")
    return content


def configuration_of(plans: dict, name: str) -> dict[str, Any]:
    """A configuration of the plans with everything it inherits, as nnU-Net reads it; a shallow copy.

    Args:
        plans: content of a plans file.
        name: of a configuration, e.g. ``3d_fullres``.

    Raises:
        MissingInput: it does not exist, or a configuration it inherits from does not; or it inherits from itself.
    """
    available, line, wanted = plans["configurations"], [], name
    while True:
        if wanted not in available:
            heir = f", which {line[-1]} inherits from" if line else ""
            raise MissingInput(
                f"The plans {plans.get('plans_name')} have no configuration {wanted}{heir}; they have "
                f"{', '.join(available) or 'none'}. nnunet_active plan -d {plans.get('dataset_name')} -m MODEL -c {name} "
                f"adds one that a source model has."
            )
        if wanted in line:
            raise MissingInput(
                f"The configuration {wanted} of the plans {plans.get('plans_name')} inherits from itself."
            )
        line.append(wanted)
        if "inherits_from" not in available[wanted]:
            break
        wanted = available[wanted]["inherits_from"]
    resolved: dict[str, Any] = {}
    for one in reversed(line):
        resolved |= available[one]
    return resolved


def configuration_if_planned(plans: dict, name: str) -> dict[str, Any]:
    """The same, or nothing where the plans have no such configuration (they may have been made anew since the campaign began)."""
    return configuration_of(plans, name) if name in plans.get("configurations", {}) else {}
