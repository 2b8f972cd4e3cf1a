"""What nnU-Net's final validation trips over: predictions of cases that are no longer held out, and a second stage that is not there.

A fold that trains on all its first labels is also validated on them, since there is nothing else. Once the fold holds out cases of its
own, the old predictions would remain in ``validation``: ``summary.json`` would average over them, and
``nnUNetv2_find_best_configuration`` would stop because two folds predict the same case.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FOLDER = "validation"
KEPT = "validation_of_earlier_splits"


def set_validation_aside(output_folder: Path, held_out: Iterable[str], ending: str) -> list[str]:
    """Move the predictions of cases that are no longer validated into a folder beside ``validation``.

    Args:
        output_folder: output folder of a trained fold.
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


@contextmanager
def without_missing_stage(trainer: Any) -> Iterator[None]:
    """Validate a ``3d_lowres`` whose second stage is planned but not preprocessed: nnU-Net would look for cases of that stage."""
    manager = trainer.configuration_manager
    stages = [trainer.plans_manager.get_configuration(name) for name in manager.next_stage_names or ()]
    base = Path(trainer.preprocessed_dataset_folder_base)
    if all(any((base / stage.data_identifier).glob("*.pkl")) for stage in stages):
        yield
        return
    planned = manager.configuration.pop("next_stage")
    try:
        yield
    finally:
        manager.configuration["next_stage"] = planned
