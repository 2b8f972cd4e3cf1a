"""The five folds that nnU-Net makes if there is no split file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nnunetv2.utilities.crossval_split import generate_crossval_split


def stock_folds(patients: Mapping[str, Sequence[str]]) -> list[dict[str, list[str]]] | None:
    """Divide cases as ``nnUNetTrainer.do_split`` does without a split file, but by patient; None with fewer than five patients.

    Args:
        patients: the cases of each patient; if every case is a patient of its own and names it, the folds are nnU-Net's own.
    """
    if len(patients) < 5:
        return None
    made = generate_crossval_split(sorted(patients), seed=12345, n_splits=5)
    return [
        {part: sorted(case for patient in names for case in patients[patient]) for part, names in fold.items()}
        for fold in made
    ]
