"""Predictions of an earlier validation, of cases that are no longer held out: nnU-Net would count them in.

A fold whose first labels are all trained on is validated on these (there is nothing else). Once it has cases of its own, the old
predictions would still lie in ``validation``: ``summary.json`` would average over them, and ``nnUNetv2_find_best_configuration`` stops
because two folds predict the same case.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

FOLDER = "validation"
KEPT = "validation_of_earlier_splits"


def set_validation_aside(output_folder: Path, held_out: Iterable[str], ending: str) -> list[str]:
    """Move the predictions of cases that are not validated on any more into a folder beside ``validation``.

    Args:
        output_folder: of a trained fold.
        held_out: cases that are validated now.
        ending: file ending of the data set.

    Returns:
        The cases whose predictions were moved, sorted.
    """
    folder, kept = output_folder / FOLDER, output_folder / KEPT
    wanted, moved = set(held_out), []
    for file in sorted(folder.glob("*")):
        case = next((file.name.removesuffix(one) for one in (ending, ".npz", ".pkl") if file.name.endswith(one)), None)
        if case is not None and case not in wanted:
            kept.mkdir(exist_ok=True)
            os.replace(file, kept / file.name)
            moved.append(case)
    return sorted(set(moved))
