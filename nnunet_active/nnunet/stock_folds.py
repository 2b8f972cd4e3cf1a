"""The five folds that nnU-Net makes by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nnunetv2.utilities.crossval_split import generate_crossval_split


def stock_folds(patients: Mapping[str, Sequence[str]]) -> list[dict[str, list[str]]] | None:
    """As ``nnUNetTrainer.do_split`` divides cases where there is no split file, but by patient; None for fewer than five patients.

    Args:
        patients: the cases of each; where every case is a patient of its own and gives it its name, the folds are nnU-Net's own.
    """
    if len(patients) < 5:
        return None
    made = generate_crossval_split(sorted(patients), seed=12345, n_splits=5)
    return [
        {part: sorted(case for patient in names for case in patients[patient]) for part, names in fold.items()}
        for fold in made
    ]
