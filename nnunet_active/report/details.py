"""The part of the page for engineers: settings, versions, the network, and the results of the trainings."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nnunet_active import __version__
from nnunet_active.campaign.campaign import Campaign
from nnunet_active.data.plans import configuration_if_planned
from nnunet_active.report.ranking import as_text
from nnunet_active.training.comparison_table import is_of_campaign
from nnunet_active.util.tables import read_csv

_PACKAGES = ("nnunetv2", "torch", "numpy", "scikit-learn", "SimpleITK")


def settings_table(campaign: Campaign) -> list[tuple[str, str]]:
    """Name and value of every setting, as in ``campaign.json``."""
    first = [
        ("dataset", campaign.dataset_folder.name),
        ("configuration", campaign.configuration),
        ("plans", campaign.plans),
        ("fold", campaign.fold),
        ("split", campaign.split_origin or "none"),
        ("budget now", campaign.budget),
    ]
    rows = [*first, *campaign.settings.to_json().items()]
    return [(name.replace("_", " "), _text(value)) for name, value in rows]


def versions_table(campaign: Campaign) -> list[tuple[str, str]]:
    """Programs and their versions, with the version that began the campaign, which may be older."""
    rows = [
        ("nnunet_active", __version__),
        ("campaign begun with nnunet_active", campaign.begun_with),
        ("Python", platform.python_version()),
    ]
    for name in _PACKAGES:
        try:
            rows.append((name, version(name)))
        except PackageNotFoundError:
            rows.append((name, "not installed"))
    return rows


def plans_table(plans: dict, configuration: str) -> list[tuple[str, str]]:
    """The plans' entries that decide how the network sees a case."""
    chosen = configuration_if_planned(plans, configuration)
    names = ("spacing", "patch_size", "batch_size", "normalization_schemes", "data_identifier")
    rows = [(name.replace("_", " "), _text(chosen[name])) for name in names if name in chosen]
    network = (chosen.get("architecture") or {}).get("network_class_name") or chosen.get("UNet_class_name")
    return rows + ([("network", str(network).rpartition(".")[2])] if network else [])


def comparisons(campaign: Campaign, results: Path) -> list[dict[str, Any]]:
    """Every ``comparison.csv`` (source against adapted network) of the campaign's fold, newest first, as text."""
    pattern = f"*__{campaign.plans}__{campaign.configuration}/fold_{campaign.fold}/comparison.csv"
    there = (results / campaign.dataset_folder.name).glob(pattern)
    files = [file for file in there if is_of_campaign(file.parent, campaign.begun)]
    found = []
    for file in sorted(files, key=lambda one: one.stat().st_mtime, reverse=True):
        try:
            table = read_csv(file, dtype=dict.fromkeys(("case", "network", "reference", "label"), str))
        except (OSError, ValueError):
            continue
        rows = [[as_text(value) for value in row] for row in table.itertuples(index=False)]
        trainer = file.parent.parent.name.split("__")[0]
        found.append({"trainer": trainer, "columns": [str(name) for name in table.columns], "rows": rows})
    return found


def _text(value: Any) -> str:
    if value is None:
        return "as the trainer has it"
    return value if isinstance(value, str) else json.dumps(value)
