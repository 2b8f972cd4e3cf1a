"""Preprocessed cases that are labelled only in part: elsewhere their label holds nnU-Net's ignore value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

from nnunet_active.data.cases import reading


@dataclass(frozen=True)
class PartlyLabelled:
    """Some of the cases in a folder.

    Attributes:
        folder: of preprocessed cases, in one of nnU-Net's formats.
        cases: those that are labelled in part.
    """

    folder: Path
    cases: tuple[str, ...]

    def label(self, case: str) -> np.ndarray:
        """What people drew, (1, Z, Y, X); the ignore value elsewhere, -1 outside of nnU-Net's nonzero mask."""
        return read_label_map(self.folder, case)


def find_partly_labelled(folder: Path, cases: Sequence[str], ignore: int | None) -> PartlyLabelled:
    """The cases whose label has the ignore value anywhere; each label is read.

    Args:
        folder: of preprocessed cases.
        cases: labelled ones.
        ignore: the ignore value; None if there is none, and then no case is labelled in part.
    """
    if ignore is None:
        return PartlyLabelled(Path(folder), ())
    return PartlyLabelled(
        Path(folder), tuple(case for case in sorted(cases) if (read_label_map(folder, case) == ignore).any())
    )


def read_label_map(folder: Path, case: str) -> np.ndarray:
    """The preprocessed label of a case, (1, Z, Y, X).

    Raises:
        BadCase: its files cannot be read.
    """
    with reading("label", case, folder):
        return np.asarray(infer_dataset_class(str(folder))(str(folder), [case]).load_case(case)[1][:])


def fill_ignored(drawn: np.ndarray, predicted: np.ndarray, ignore: int) -> np.ndarray:
    """A label map with the prediction in every unlabelled voxel; drawn voxels stay unchanged.

    Raises:
        ValueError: the shapes differ.

    >>> fill_ignored(np.array([0, 1, 3, 3]), np.array([2, 2, 2, 0]), 3).tolist()
    [0, 1, 2, 0]
    """
    if drawn.shape != predicted.shape:
        raise ValueError(f"a label of shape {drawn.shape} cannot be filled by a prediction of shape {predicted.shape}")
    return np.where(drawn == ignore, predicted, drawn)
