"""The labels and regions that a ``dataset.json`` defines: their values, and what is wrong with them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

BACKGROUND = "background"
IGNORE = "ignore"
LABELS = '"labels" must map names to integers or lists of integers, e.g. {"background": 0, "tumour": 1}'
HIGHEST = 65_535


def class_values(labels: Mapping) -> dict[str, tuple[int, ...]]:
    """The voxel values of every label and region.

    >>> class_values({"background": 0, "whole": [1, 2]})
    {'background': (0,), 'whole': (1, 2)}
    """
    return {
        name: tuple(int(v) for v in (value if isinstance(value, (list, tuple)) else [value]))
        for name, value in labels.items()
    }


def foreground_classes(labels: Mapping) -> dict[str, tuple[int, ...]]:
    """As :func:`class_values`, without the background and the ignore label."""
    return {name: values for name, values in class_values(labels).items() if name != IGNORE and set(values) != {0}}


def has_regions(labels: Mapping) -> bool:
    """Whether nnU-Net trains on regions, which may overlap, instead of labels."""
    return any(isinstance(value, (list, tuple)) and len(value) > 1 for value in labels.values())


def label_problems(labels: Any, order: Any) -> list[str]:
    """What is wrong with the labels, in half sentences; none if nnU-Net and this package can use them.

    Args:
        labels: ``labels`` of ``dataset.json``.
        order: its ``regions_class_order``, or None.
    """
    if not isinstance(labels, Mapping):
        return [f"{LABELS}; found {shown(labels)}"]
    if all(number_of(name) is not None for name in labels) and any(
        isinstance(value, str) and number_of(value) is None for value in labels.values()
    ):
        return [f"{LABELS}; names and numbers are the wrong way round: found {shown(labels)}"]
    wrong = {name: value for name, value in labels.items() if not _are_values(value)}
    if wrong:
        return [f"{LABELS}, from 0 up; found {', '.join(f'{name}: {shown(v)}' for name, v in wrong.items())}"]
    values, regions = class_values(labels), has_regions(labels)
    problems = _background_problems(labels) + _name_problems(labels)
    if isinstance(labels.get(IGNORE), (list, tuple)):
        return [*problems, f"the ignore label must be one value, not {shown(labels[IGNORE])}"]
    used = [value for name, single in values.items() if name != IGNORE for value in single]
    if not used:
        return problems
    if max(used) > HIGHEST:
        return [
            *problems,
            f"the label value {max(used)} is higher than {HIGHEST}, the highest that a label file can hold",
        ]
    if not regions:
        problems += [
            f"the labels {' and '.join(name for name, single in values.items() if single == (value,))} have the same value {value}"
            for value, count in Counter(used).items()
            if count > 1
        ]
        if missing := sorted(set(range(max(used) + 1)) - set(used)):
            problems.append(
                f"the label values have a gap ({', '.join(map(str, missing))} of 0 to {max(used)} missing), and nnU-Net would predict "
                f"other values than the label files have; number the labels without a gap, there and in the label files"
            )
    else:
        problems += _region_problems(values, order)
    if IGNORE in labels and values[IGNORE][0] != max(used) + 1:
        problems.append(
            f"the ignore label must be the highest value plus one, {max(used) + 1}, not {values[IGNORE][0]}"
        )
    return problems


def _background_problems(labels: Mapping) -> list[str]:
    value = labels.get(BACKGROUND)
    if value is not None and not isinstance(value, (list, tuple)) and int(value) == 0:
        return []
    found = "it has none" if value is None else f"found {shown(value)}"
    return [f'"labels" must have "background": 0, spelled like this ({found})']


def _name_problems(labels: Mapping) -> list[str]:
    """Finds names that differ only in capitals or outer blanks, because comparisons treat them as one name."""
    alike: dict[str, list[str]] = {}
    for name in labels:
        alike.setdefault(name.strip().casefold(), []).append(name)
    return [
        f"the labels {' and '.join(map(repr, names))} differ in capitals or blanks only; give them names that can be told apart"
        for names in alike.values()
        if len(names) > 1
    ] + (["a label has no name"] if "" in alike else [])


def _region_problems(values: Mapping[str, tuple[int, ...]], order: Any) -> list[str]:
    regions = [name for name, single in values.items() if name != IGNORE and set(single) != {0}]
    wanted = (
        f'"regions_class_order" must list one label value for each of the {len(regions)} regions {", ".join(regions)}, in this '
        f"order: the value that its voxels get"
    )
    if order is None:
        return [f"{wanted}; it is not there"]
    if not isinstance(order, (list, tuple)) or len(order) != len(regions) or not _are_values(list(order)):
        return [f"{wanted}; found {shown(order)}"]
    drawn = {value for name in regions for value in values[name]}
    if foreign := [value for value in map(number_of, order) if value not in drawn]:
        return [f"{wanted}; {', '.join(map(str, foreign))} is no value of a region: found {shown(order)}"]
    return []


def _are_values(value: Any) -> bool:
    """Whether these are label values: integers from 0 up, or texts and floats that stand for one, which nnU-Net accepts too."""
    numbers = [number_of(one) for one in (value if isinstance(value, (list, tuple)) else [value])]
    return bool(numbers) and all(number is not None and number >= 0 for number in numbers)


def number_of(value: Any) -> int | None:
    """The integer that a JSON value stands for; None if it stands for none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = int(value)
    except (ValueError, OverflowError):
        return None
    return number if isinstance(value, str) or number == value else None


def shown(value: Any) -> str:
    """A JSON value for a message, shortened."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 160 else f"{text[:160]} ..."
