"""Estimates how long an expert needs for a whole case, or for some of its slices.

minutes(case) = base + per_object * objects + per_cm3 * volume

where number and volume of the objects are those that the current model predicts. The form and its constants are our choice; a lab
should replace them with its own. The base covers opening and looking through a scan, which costs the same for every case. Every object
must be found and checked, and drawing takes longer for larger volumes. A prediction without any object costs only the base.

minutes(k slices of a case) = opening + per_slice * k

These two constants are guesses as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nnunet_active.util.errors import ActiveError

BASE_MINUTES = 5.0
MINUTES_PER_OBJECT = 2.0
MINUTES_PER_CM3 = 0.2
OPENING_MINUTES = 2.0
MINUTES_PER_SLICE = 1.0
SMALLEST_OBJECT_MM3 = 10.0
"""Specks below this volume are not counted, since nobody edits them one by one."""


@dataclass(frozen=True)
class AnnotationTime:
    """Expected minutes of an expert for one case.

    Attributes:
        base: minutes for every case.
        per_object: minutes for every predicted object.
        per_cm3: minutes for every cm³ of predicted foreground.

    >>> AnnotationTime(5, 2, 0.5).minutes(objects=3, cm3=4)
    13.0
    """

    base: float = BASE_MINUTES
    per_object: float = MINUTES_PER_OBJECT
    per_cm3: float = MINUTES_PER_CM3

    def __post_init__(self) -> None:
        values = (self.base, self.per_object, self.per_cm3)
        if not all(math.isfinite(value) and value >= 0 for value in values) or not any(values):
            raise ActiveError(
                f"The minutes per case, object and cm3 ({', '.join(f'{v:g}' for v in values)}) must be 0 or more, and not all 0."
            )

    def minutes(self, objects: float, cm3: float) -> float:
        """Expected minutes; an unknown volume (NaN) counts as 0."""
        return float(self.base + self.per_object * objects + self.per_cm3 * (cm3 if math.isfinite(cm3) else 0.0))


@dataclass(frozen=True)
class SliceMinutes:
    """Expected minutes of an expert for some slices of a case.

    Attributes:
        opening: minutes for every case.
        per_slice: minutes for every slice.

    Raises:
        ActiveError: a value is negative or not finite, or ``per_slice`` is 0.

    >>> SliceMinutes(2, 1).minutes(3)
    5.0
    """

    opening: float = OPENING_MINUTES
    per_slice: float = MINUTES_PER_SLICE

    def __post_init__(self) -> None:
        if (
            not all(math.isfinite(value) and value >= 0 for value in (self.opening, self.per_slice))
            or not self.per_slice
        ):
            raise ActiveError(
                f"The minutes for opening a case ({self.opening:g}) must be 0 or more, and those for a slice ({self.per_slice:g}) more."
            )

    def minutes(self, slices: int) -> float:
        """Expected minutes for a case with that many requested slices."""
        return float(self.opening + self.per_slice * slices)


def count_objects(classes: np.ndarray, voxel_mm3: float, smallest_mm3: float = SMALLEST_OBJECT_MM3) -> int:
    """Number of connected objects (faces, edges and corners touch), summed over the classes.

    Args:
        classes: predicted labels (Z, Y, X), 0 is background; or one mask per region (R, Z, Y, X) bool.
        voxel_mm3: volume of a voxel.
        smallest_mm3: smaller objects are not counted.

    >>> labels = np.zeros((1, 3, 5), int); labels[0, 0, 0] = 1; labels[0, 2, 2:] = 1; labels[0, 0, 3] = 2
    >>> count_objects(labels, 1.0, 0.0), count_objects(labels, 1.0, 2.0)
    (3, 1)
    """
    from scipy import ndimage  # not above: the command line imports this module for its constants

    masks = classes if classes.ndim == 4 else [classes == value for value in np.unique(classes) if value != 0]
    structure = np.ones((3, 3, 3), dtype=bool)
    count = 0
    for mask in masks:
        labels, _ = ndimage.label(mask, structure)
        sizes = np.bincount(labels.ravel())[1:]
        count += int(np.count_nonzero(sizes * voxel_mm3 >= smallest_mm3))
    return count
