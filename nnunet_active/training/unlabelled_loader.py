"""Loads and augments unlabelled cases of the pool the way the trainer does with labelled ones, without any label."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from nnunet_active.data.cases import CaseStore
from nnunet_active.training.loaders import finish_loader


class Everywhere(Sequence):
    """All voxels of an image in the form of nnU-Net's ``class_locations``, computed on demand.

    Args:
        shape: (Z, Y, X).
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def __len__(self) -> int:
        return int(np.prod(self.shape))

    def __getitem__(self, index: int) -> tuple[int, ...]:
        return 0, *map(int, np.unravel_index(index, self.shape))


class LocatedAnywhere(Mapping):
    """``class_locations`` without classes. With an ignore label, nnU-Net centres patches on labelled voxels; here any voxel counts as
    one."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.everywhere = Everywhere(shape)

    def __getitem__(self, key: Any) -> Everywhere:
        return self.everywhere

    def __iter__(self) -> Iterator:
        return iter(())

    def __len__(self) -> int:
        return 0


class NoLabel:
    """A label map (1, Z, Y, X) of background, computed on demand.

    Args:
        image: (channels, Z, Y, X), read in parts.
        masked: images are 0 outside a mask. The label is then -1, nnU-Net's mark for that, wherever all channels are 0.
    """

    def __init__(self, image: Any, masked: bool) -> None:
        self.image, self.masked = image, masked
        self.shape = (1, *image.shape[1:])
        self.dtype = np.dtype(np.int16)

    def __getitem__(self, where: Any) -> np.ndarray:
        part = self.image[where]
        outside = np.all(part == 0, axis=0, keepdims=True) if self.masked else np.zeros((1, *part.shape[1:]), bool)
        return np.where(outside, -1, 0).astype(self.dtype)


class UnlabelledDataset:
    """Looks to nnU-Net's loader like a data set of labelled cases.

    Args:
        store: holds the images; a label beside an image is never opened.
        cases: cases to load; not empty.
    """

    def __init__(self, store: CaseStore, cases: Sequence[str]) -> None:
        self.store, self.identifiers = store, list(cases)
        self.masked = any(store.configuration_manager.use_mask_for_norm)

    def load_case(self, identifier: str) -> tuple[Any, NoLabel, None, dict]:
        """Image, a label map of background, None, properties."""
        image = self.store.open_image(identifier)
        return image, NoLabel(image, self.masked), None, {"class_locations": LocatedAnywhere(image.shape[1:])}

    def __getitem__(self, identifier: str) -> tuple[Any, NoLabel, None, dict]:
        return self.load_case(identifier)


def unlabelled_loader(trainer: Any, cases: Sequence[str], make: Callable[[], tuple[Any, Any]]) -> Any:
    """A loader with the trainer's own batch size and augmentation, but of unlabelled cases and without oversampling.

    Args:
        trainer: an initialized active trainer.
        cases: cases to draw from.
        make: makes the trainer's own two loaders, e.g. nnU-Net's ``get_dataloaders``.
    """
    data = UnlabelledDataset(trainer.session.store, cases)
    share = trainer.oversample_foreground_percent
    trainer.get_tr_and_val_datasets, trainer.oversample_foreground_percent = lambda: (data, data), 0.0
    try:
        loader, second = make()
    finally:
        del trainer.get_tr_and_val_datasets
        trainer.oversample_foreground_percent = share
    finish_loader(second)
    return loader
