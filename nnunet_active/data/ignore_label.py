"""nnU-Net's ignore label in ``dataset.json``: it marks voxels that nobody has labelled.

nnU-Net requires the name ``ignore`` and the highest label value plus one. The label has no output channel; the loss masks it, the
data loaders sample only labelled places, and the metrics skip it. The raw ``dataset.json`` (planning, integrity checks) and the
preprocessed one (training) must agree, so both are written or neither.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunet_active.data.dataset_json import allowed_label_values, ignore_value, read_dataset_json
from nnunet_active.data.label_definitions import IGNORE, class_values
from nnunet_active.util.atomic import copy_file, write_json
from nnunet_active.util.errors import MissingInput

KEPT = "dataset_before_ignore_label.json"


def missing_line(dataset_json: Mapping) -> str:
    """The line that ``labels`` of ``dataset.json`` lacks.

    >>> missing_line({"labels": {"background": 0, "whole": [1, 2], "core": 2}})
    '"ignore": 3'
    """
    return f'"{IGNORE}": {_next_value(dataset_json)}'


def with_ignore_label(dataset_json: Mapping) -> dict:
    """The content of a ``dataset.json`` with an ignore label: its own, or a new one."""
    labels = dataset_json["labels"]
    return {**dataset_json, "labels": labels if IGNORE in labels else {**labels, IGNORE: _next_value(dataset_json)}}


def require_ignore_value(dataset_json: Mapping, file: Path) -> int:
    """The declared ignore value.

    Raises:
        MissingInput: there is none; the message says which line ``file`` lacks and which flag writes it.
    """
    value = ignore_value(dataset_json)
    if value is None:
        raise MissingInput(
            f'Slices can be asked for only where "labels" in {file} has the line {missing_line(dataset_json)}, the value for whatever '
            f"nobody labelled; add it, or let --add-ignore-label write it (the old file is kept)."
        )
    return value


def add_ignore_label(files: Sequence[Path]) -> list[Path]:
    """Declare the ignore label in several copies of one ``dataset.json``; each old file is kept beside it.

    Everything is read and checked before the first write, and each file is replaced in one step. After a kill in between, the same
    call completes the rest.

    Args:
        files: the raw one and the preprocessed one; those that already declare it stay unchanged.

    Returns:
        The files that were changed.

    Raises:
        MissingInput: a file is missing or cannot be used, or the labels differ between the copies; nothing is written.
    """
    contents: dict[Path, dict] = {}
    for file in map(Path, files):
        read_dataset_json(file)  # finds any fault before anything is written
        contents[file] = json.loads(file.read_text(encoding="utf-8-sig"))
    without = [
        class_values({n: v for n, v in content["labels"].items() if n != IGNORE}) for content in contents.values()
    ]
    if any(one != without[0] for one in without):
        raise MissingInput(
            f"{' and '.join(map(str, contents))} differ in their labels; make them agree first. Nothing was written."
        )
    changed = []
    for file, content in contents.items():
        if IGNORE in content["labels"]:
            continue
        kept = file.with_name(KEPT)
        if not kept.exists():
            copy_file(file, kept)
        write_json(file, with_ignore_label(content))
        changed.append(file)
    return changed


def declare_ignore_label(raw: Path, preprocessed: Path) -> list[Path]:
    """:func:`add_ignore_label` in both copies of a data set; the one beside the plans may not exist yet."""
    files = [folder / "dataset.json" for folder in (raw, preprocessed)]
    return add_ignore_label([file for file in files if file == files[0] or file.is_file()])


def _next_value(dataset_json: Mapping) -> int:
    others = {name: value for name, value in dataset_json["labels"].items() if name != IGNORE}
    return max(allowed_label_values({"labels": others})) + 1
