"""One plans file for several configurations, each from a source model of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.commands import Commands
from nnunet_active.util.errors import ActiveError

_SHARED = ("image_reader_writer", "transpose_forward", "transpose_backward", "label_manager")
_PREPROCESSING = ("preprocessor_name", "spacing", "normalization_schemes", "use_mask_for_norm")
_STATISTICS = "foreground_intensity_properties_per_channel"


def merge_plans(file: Path, planned: Sequence[dict]) -> dict:
    """Merge new plans with one another and with the content of ``file``; nothing is written.

    A configuration that is planned again replaces the old one; the others stay unchanged.

    Args:
        file: ``nnUNet_preprocessed/DatasetXXX/<plans_name>.json``; need not exist.
        planned: plans with ``source_models``, each with its own configurations.

    Raises:
        ActiveError: the facts that all configurations of a file share (axes, reader, label manager, CT statistics)
            differ; or there are cases preprocessed with differing plans; or the file is not ours.
    """
    parts = [deepcopy(plans) for plans in planned]
    existing = _read(file)
    if existing is not None:
        for plans in parts:
            _check_preprocessed(file.parent, existing, plans)
        new = {name for plans in parts for name in plans["configurations"]}
        for key in ("configurations", "source_models"):
            existing[key] = {name: value for name, value in existing[key].items() if name not in new}
        if existing["configurations"]:
            parts.insert(0, existing)
    merged, *others = parts
    for plans in others:
        if differing := _differences(merged, plans):
            names = " and ".join([*merged["configurations"], *plans["configurations"]])
            raise ActiveError(
                f"{file} cannot hold {names} together: their source models differ in {', '.join(differing)}; "
                f"choose another -plans_name."
            )
        for key in ("configurations", "source_models"):
            merged[key].update(plans[key])
    return merged


def reader_in_use(file: Path) -> str | None:
    """The reader of existing plans of ours that cases were preprocessed with; None if there are no such plans or cases.

    Raises:
        ActiveError: the file is not ours.
    """
    existing = _read(file) or {"configurations": {}}
    folders = (configuration.get("data_identifier", "") for configuration in existing["configurations"].values())
    used = any(any((file.parent / f"{folder}{end}").glob("*")) for folder in folders if folder for end in ("", "_pool"))
    return existing.get("image_reader_writer") if used else None


def what_is_replaced(file: Path, plans: dict) -> list[str]:
    """Sentences about the source models that new plans replace, and about their open rounds.

    Args:
        file: the plans file before the new plans are written; need not exist.
        plans: the new plans.
    """
    existing = _read(file) or {"source_models": {}}
    replaced = {
        name: before
        for name, before in existing["source_models"].items()
        if name in plans["source_models"] and before.get("weights") != plans["source_models"][name].get("weights")
    }
    sentences = [
        f"The source model of {name} so far ({before.get('dataset')}, fold {before.get('fold')}) is replaced."
        for name, before in replaced.items()
    ]
    for state in sorted(file.parent.glob("active/fold_*/campaign.json")):
        try:
            campaign = Campaign.open(file.parent, state.parent.name.removeprefix("fold_"))
        except ActiveError:  # an earlier campaign that was set aside, or a damaged file: reported where it is used
            continue
        concerned = campaign.plans == file.stem and campaign.configuration in replaced
        if concerned and (waiting := campaign.waiting()):
            dataset = campaign.dataset_folder.name
            commands = Commands(dataset, campaign.configuration, campaign.plans, campaign.fold)
            sentences.append(
                f"Fold {campaign.fold} waits for {len(waiting)} label(s) that the model so far asked for ({', '.join(waiting)}); "
                f"{commands.annotate()} has the new model predict what nobody has labelled yet. To begin anew with it: "
                f"{commands.init()} --restart."
            )
    return sentences


def _read(file: Path) -> dict | None:
    if not file.is_file():
        return None
    try:
        existing = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ActiveError(f"{file} is not valid JSON ({error}); repair it or remove it.") from error
    if not isinstance(existing, dict) or "source_models" not in existing:
        raise ActiveError(f"{file} was not made from a source model and stays as it is; choose another -plans_name.")
    return existing


def _differences(one: dict, other: dict) -> list[str]:
    """Facts of the whole file in which two plans differ. Only CTNormalization reads the statistics."""
    differing = [key for key in _SHARED if one.get(key) != other.get(key)]
    configurations = [*one["configurations"].values(), *other["configurations"].values()]
    reads_statistics = any("CTNormalization" in c["normalization_schemes"] for c in configurations)
    if reads_statistics and one.get(_STATISTICS) != other.get(_STATISTICS):
        differing.append(_STATISTICS)
    return differing


def _check_preprocessed(folder: Path, existing: dict, plans: dict) -> None:
    """Refuse to mix cases preprocessed with other plans with new ones."""
    for name, after in plans["configurations"].items():
        before = existing["configurations"].get(name)
        cases = [folder / (after["data_identifier"] + suffix) for suffix in ("", "_pool")]
        filled = [str(path) for path in cases if path.is_dir() and any(path.iterdir())]
        if before is None or not filled:
            continue
        keys = [*_PREPROCESSING, *(key for key in after if key.startswith("resampling_fn"))]
        differing = [key for key in keys if before.get(key) != after.get(key)]
        differing += _differences({**existing, "configurations": {name: before}}, plans)
        if differing:
            raise ActiveError(
                f"{' and '.join(filled)} hold cases that were preprocessed by other plans (they differ in "
                f"{', '.join(differing)}); remove these folders, or choose another -plans_name."
            )
