"""Names and colours of the labels, the same in every program that an annotator may use."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

from nnunet_active.data.dataset_json import allowed_label_values, label_values

# Visible on grey images and distinct for most colour-blind people (after Okabe and Ito's palette, without its black).
_PALETTE = ((230, 75, 53), (0, 158, 115), (86, 180, 233), (240, 228, 66), (204, 121, 167), (0, 114, 178), (230, 159, 0))


@dataclass(frozen=True)
class Label:
    """One label value other than the background's 0; ``colour`` is (red, green, blue), 0 to 255.

    ITK-SNAP does not draw a label that is not ``visible``. (3D Slicer's files say nothing about it, and MITK opens these.)
    """

    value: int
    name: str
    colour: tuple[int, int, int]
    visible: bool = True


def labels_of(dataset_json: dict) -> list[Label]:
    """The labels of a data set in order of value, including the ignore label. A region is listed under the value that nnU-Net gives it.

    >>> [(label.value, label.name) for label in labels_of({"labels": {"background": 0, "tumour": 1, "ignore": 2}})]
    [(1, 'tumour'), (2, 'ignore')]
    """
    names = {value: name for name, value in label_values(dataset_json).items()}
    values = sorted({*allowed_label_values(dataset_json), *names} - {0})
    return [Label(value, names.get(value, f"label {value}"), _colour(index)) for index, value in enumerate(values)]


def colour_of_name(dataset_json: dict) -> dict[str, str]:
    """The colour of each label or region as ``#rrggbb``, by name, in order of value.

    >>> colour_of_name({"labels": {"background": 0, "tumour": 1}})
    {'tumour': '#e64b35'}
    """
    return {label.name: "#{:02x}{:02x}{:02x}".format(*label.colour) for label in labels_of(dataset_json)}


def _colour(index: int) -> tuple[int, int, int]:
    if index < len(_PALETTE):
        return _PALETTE[index]
    # golden ratio steps around the colour circle stay far apart
    red, green, blue = colorsys.hsv_to_rgb((index * 0.618034) % 1, 0.6 + 0.3 * (index % 2), 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)
