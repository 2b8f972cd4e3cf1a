"""What ``dataset.json`` says about a data set: its channels, its labels and regions, and its file ending.

The whole file is checked once, before anything is made from it: nnU-Net notices some mistakes only when a training dies, and
others (a gap in the label values, two labels with one name) never.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nnunet_active.data.label_definitions import (
    IGNORE,
    LABELS,
    class_values,
    foreground_classes,
    has_regions,
    label_problems,
    number_of,
    shown,
)
from nnunet_active.util.errors import MissingInput

_IN_TWO_FILES = {".mhd": ".mha", ".nhdr": ".nrrd"}
_CHANNELS = '"channel_names" must map channel numbers to names, e.g. {"0": "T1", "1": "FLAIR"}'


class DatasetDescription(NamedTuple):
    """A usable ``dataset.json``, and notes on its oddities."""

    content: dict
    notes: tuple[str, ...] = ()


def read_dataset_json(file: Path, whose: str = "") -> DatasetDescription:
    """Read and check a ``dataset.json``.

    Args:
        file: where it is.
        whose: what it belongs to, for the messages, e.g. ``the source model``.

    Raises:
        MissingInput: the file does not exist, is no JSON, or cannot be used; one sentence that names all its faults.
    """
    where = f"{file} of {whose}" if whose else str(file)
    if not Path(file).is_file():
        raise MissingInput(f"{where} was not found; a data set in nnU-Net's raw format has a dataset.json.")
    twice: list[str] = []
    try:
        # some editors write a byte order mark; that is no mistake of the user's
        content = json.loads(Path(file).read_text(encoding="utf-8-sig"), object_pairs_hook=_noting_twice(twice))
    except (ValueError, RecursionError) as error:
        raise MissingInput(f"{where} is not valid JSON ({error}); correct the file.") from error
    return check_dataset_json(content, where, twice)


def used_dataset_json(dataset_folder: Path, raw: Callable[[], dict]) -> dict:
    """What nnU-Net trains with: the copy beside the plans, or the raw data set's if there is no copy yet.

    Args:
        dataset_folder: ``nnUNet_preprocessed/DatasetXXX``.
        raw: returns the raw content; called only if needed.

    Raises:
        MissingInput: the copy cannot be used.
    """
    file = Path(dataset_folder) / "dataset.json"
    return read_dataset_json(file).content if file.is_file() else raw()


def check_dataset_json(content: Any, where: str, twice: list[str] | tuple = ()) -> DatasetDescription:
    """Make sure that nnU-Net and this package understand a ``dataset.json`` in the same way.

    The returned channels are numbered as their files, ``"0"`` to ``"n-1"``, and the label values are integers; ``null`` entries are
    left out.

    Args:
        content: what the file holds.
        where: the file's name for messages.
        twice: keys that occur twice in the file.

    Raises:
        MissingInput: it cannot be used; one sentence that names all its faults.
    """
    if not isinstance(content, dict):
        raise MissingInput(f"{where} does not hold a JSON object; see nnU-Net's description of dataset.json.")
    content = {key: value for key, value in content.items() if value is not None}
    absent = [key for key in ("labels", "file_ending") if not content.get(key) and content.get(key) != 0]
    if not (content.get("channel_names") or content.get("modality")):
        absent.append("channel_names")
    if absent:
        raise MissingInput(f"{where} lacks {', '.join(absent)}; see nnU-Net's description of dataset.json.")
    notes: list[str] = []
    key = "channel_names" if content.get("channel_names") else "modality"
    channels, problems = _checked_channels(content[key], where, notes)
    problems += label_problems(content["labels"], content.get("regions_class_order"))
    problems += _ending_problems(content["file_ending"])
    if not isinstance(reader := content.get("overwrite_image_reader_writer", ""), str):
        problems.append(f'"overwrite_image_reader_writer" must be the name of a reader; found {shown(reader)}')
    problems += [f"the key {name!r} is there twice" for name in twice]
    if problems:
        raise MissingInput(f"{where} cannot be used: {'; '.join(problems)}.")
    labels = {
        name: list(values) if isinstance(content["labels"][name], list) else values[0]
        for name, values in class_values(content["labels"]).items()
    }
    return DatasetDescription({**content, key: channels, "labels": labels}, tuple(notes))


def channel_names(dataset_json: Mapping) -> list[str]:
    """Names of the image channels in the order of their numbers (``modality`` is the key of older data sets).

    Raises:
        MissingInput: there are none, or they cannot be ordered.

    >>> channel_names({"modality": {"1": "T2", "0": "T1"}})
    ['T1', 'T2']
    """
    named = dataset_json.get("channel_names") or dataset_json.get("modality")
    if not named:
        raise MissingInput(f"dataset.json names no channels: {_CHANNELS}.")
    channels, problems = _checked_channels(named, "dataset.json", [])
    if problems:
        raise MissingInput(f"dataset.json cannot be used: {'; '.join(problems)}.")
    return list(channels.values())


def distinct_channel_names(dataset_json: Mapping) -> list[str]:
    """The same for people and for tables: if channels share a name, each also gets the number of its files.

    nnU-Net's channel names choose the normalisation, so ``CT`` or ``noNorm`` may occur twice.

    Raises:
        MissingInput: see :func:`channel_names`.

    >>> distinct_channel_names({"channel_names": {"0": "MR", "1": "CT", "2": "MR"}})
    ['MR 0000', 'CT', 'MR 0002']
    """
    names = channel_names(dataset_json)
    times = Counter(name.casefold() for name in names)
    return [name if times[name.casefold()] == 1 else f"{name} {index:04d}" for index, name in enumerate(names)]


def allowed_label_values(dataset_json: Mapping) -> frozenset[int]:
    """Voxel values that a label file may have: all integers in ``labels``, regions split up, ``ignore`` included.

    Raises:
        MissingInput: ``labels`` cannot be used.

    >>> sorted(allowed_label_values({"labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}}))
    [0, 1, 2, 3]
    """
    try:
        return frozenset(value for values in class_values(dataset_json["labels"]).values() for value in values)
    except (TypeError, ValueError, AttributeError) as error:
        raise MissingInput(f"In dataset.json {LABELS}; found {dataset_json['labels']}.") from error


def ignore_value(dataset_json: Mapping) -> int | None:
    """The value of the ignore label; None if there is none."""
    value = dataset_json["labels"].get(IGNORE)
    return None if value is None else int(value)


def label_values(dataset_json: Mapping) -> dict[str, int]:
    """Label name -> the value of its voxels; for a region, the value that nnU-Net writes for it.

    >>> label_values({"labels": {"background": 0, "whole": [1, 2], "core": [2]}, "regions_class_order": [1, 2]})
    {'background': 0, 'whole': 1, 'core': 2}
    """
    # nnU-Net reads regions_class_order only if there are regions
    order = iter((dataset_json.get("regions_class_order") or []) if has_regions(dataset_json["labels"]) else [])
    values = {}
    for name, single in class_values(dataset_json["labels"]).items():
        # regions_class_order has one entry for every label but the background and the ignore label
        painted = None if name == IGNORE or set(single) == {0} else next(order, None)
        values[name] = int(painted) if painted is not None else single[0]
    return values


def names_of_values(dataset_json: Mapping) -> dict[str, int]:
    """As :func:`label_values`, plus ``label N`` for every value that label files may have but no label is written with."""
    values = label_values(dataset_json)
    others = sorted(allowed_label_values(dataset_json) - {*values.values()})
    return {**values, **{f"label {value}": value for value in others}}


def changed_description(raw: Mapping, used: Mapping) -> str | None:
    """A sentence on what somebody changed in the raw ``dataset.json``'s channels and labels since the plans were made; None if nothing.

    The ignore label does not count: asking for slices adds it to the copy beside the plans.
    """
    now, before = ({n: v for n, v in class_values(one["labels"]).items() if n != IGNORE} for one in (raw, used))
    channels, planned = channel_names(raw), channel_names(used)
    parts = [] if channels == planned else [f"channels {', '.join(channels)} in place of {', '.join(planned)}"]
    parts += [f"{name} ({', '.join(map(str, now[name]))}) is new" for name in now if name not in before]
    parts += [f"{name} is gone" for name in before if name not in now]
    parts += [f"{name} has another value" for name in now if name in before and now[name] != before[name]]
    if not parts:
        return None
    return (
        f"The raw dataset.json is not the one that the cases were preprocessed with: {'; '.join(parts)}. What it said before counts "
        f"until the data set is planned again (nnunet_active plan); else change it back."
    )


def class_masks(label: np.ndarray, labels: Mapping) -> dict[str, np.ndarray]:
    """One mask per foreground label or region of ``dataset.json``; voxels of the ignore label are in none of them."""
    return {name: np.isin(label, values) for name, values in foreground_classes(labels).items()}


def _noting_twice(twice: list[str]) -> Callable[[list[tuple[str, Any]]], dict]:
    """Notes keys that occur twice: JSON readers silently keep the last one, so a label would vanish."""

    def pairs(found: list[tuple[str, Any]]) -> dict:
        twice.extend(key for key, count in Counter(key for key, _ in found).items() if count > 1)
        return dict(found)

    return pairs


def _checked_channels(named: Any, where: str, notes: list[str]) -> tuple[dict[str, str], list[str]]:
    """Channels by number, and what is wrong with them; oddities go to ``notes``."""
    if not isinstance(named, Mapping):
        return {}, [f"{_CHANNELS}; found {shown(named)}"]
    if any(not isinstance(name, str) or not name.strip() for name in named.values()):
        reversed_ = all(number_of(name) is not None for name in named.values()) and not any(
            number_of(key) is not None for key in named
        )
        reason = "names and numbers are the wrong way round" if reversed_ else "every channel needs a name that is text"
        return {}, [f"{_CHANNELS}; {reason}: found {shown(named)}"]
    numbers = [number_of(key) for key in named]
    if None in numbers or len(set(numbers)) < len(numbers):
        order = list(named)
        notes.append(
            f"The keys of channel_names in {where} are no channel numbers; as in nnU-Net their order counts: "
            f"{', '.join(f'_{index:04d} is {named[key]}' for index, key in enumerate(order))}."
        )
    else:
        order = sorted(named, key=lambda key: int(key))
        if order != list(named):
            notes.append(
                f"The channels in {where} are not listed in the order of their numbers; the numbers count. nnU-Net's own planning "
                f"takes the order of the list: sort it."
            )
        elif sorted(numbers) != list(range(len(numbers))):
            notes.append(
                f"The channels in {where} have the numbers {', '.join(map(str, numbers))}; their files are counted from _0000."
            )
    return {str(index): named[key] for index, key in enumerate(order)}, []


def _ending_problems(ending: Any) -> list[str]:
    if isinstance(ending, str) and (whole := _IN_TWO_FILES.get(ending.lower())):
        return [
            f'"file_ending" is "{ending}", whose voxels lie in a second file that would not go along with it; save images and labels '
            f'as "{whole}" and name that ending'
        ]
    if isinstance(ending, str) and ending.startswith(".") and len(ending) > 1 and "/" not in ending:
        return []
    return [f'"file_ending" must be the ending of the image files with its dot, e.g. ".nii.gz"; found {shown(ending)}']
