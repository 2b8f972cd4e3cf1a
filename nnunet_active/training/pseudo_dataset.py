"""A training set of labelled and pseudo-labelled cases: presents two nnU-Net data sets as one, without copying images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset


class MixedDataset:
    """Looks to nnU-Net's loader like the labelled data set, but takes a given share of the samples from the pseudo-labelled one.

    When the loader asks for a labelled case, it gets a pseudo-labelled case instead with probability ``share``, each one equally
    likely. With any loader and augmentation, the expected loss per sample is thus
    ``(1 - share) E_labelled[loss] + share E_pseudo[loss]``: the weighted sum of ASSFT with w = share / (1 - share). The draw uses
    NumPy's legacy generator, as nnU-Net does: seeded per epoch in the main process, and per worker in the background.

    Args:
        labelled: nnU-Net's data set of the labelled cases.
        pseudo: nnU-Net's data set of the pseudo-labelled cases; not empty.
        share: probability in [0, 1).
        filled: cases that may be in both sets: labelled in part, with predictions filled into the rest in ``pseudo``.

    Raises:
        ValueError: no pseudo-labelled case, a share outside [0, 1), or a case in both sets that is not among ``filled``.
    """

    def __init__(
        self, labelled: nnUNetBaseDataset, pseudo: nnUNetBaseDataset, share: float, filled: Sequence[str] = ()
    ) -> None:
        if not pseudo.identifiers:
            raise ValueError("a mixed data set needs a pseudo-labelled case")
        if not 0 <= share < 1:
            raise ValueError(f"the share of pseudo-labelled samples is {share}; it must be at least 0 and less than 1")
        both = set(labelled.identifiers) & set(pseudo.identifiers) - set(filled)
        if both:
            raise ValueError(f"labelled and pseudo-labelled at once: {', '.join(sorted(both))}")
        self.labelled, self.pseudo, self.share = labelled, pseudo, share
        self.identifiers = labelled.identifiers
        self.source_folder = labelled.source_folder

    def load_case(self, identifier: str) -> tuple[Any, Any, Any, dict]:
        """Image, label map, None, properties of this labelled case, or of a pseudo-labelled one in its place."""
        if np.random.random() >= self.share:  # noqa: NPY002 - what nnU-Net seeds
            return self.labelled.load_case(identifier)
        chosen = np.random.randint(len(self.pseudo.identifiers))  # noqa: NPY002 - as above
        return self.pseudo.load_case(self.pseudo.identifiers[chosen])

    def __getitem__(self, identifier: str) -> tuple[Any, Any, Any, dict]:
        return self.load_case(identifier)
