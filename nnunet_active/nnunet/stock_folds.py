"""The five folds that nnU-Net makes by itself."""

from __future__ import annotations

from collections.abc import Iterable

from nnunetv2.utilities.crossval_split import generate_crossval_split


def stock_folds(cases: Iterable[str]) -> list[dict[str, list[str]]] | None:
    """As ``nnUNetTrainer.do_split`` divides these cases where there is no split file; None for fewer than five cases."""
    cases = sorted(cases)
    return generate_crossval_split(cases, seed=12345, n_splits=5) if len(cases) >= 5 else None
