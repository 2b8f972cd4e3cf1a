"""The unlabelled cases of a pool, loaded and augmented as the trainer does it with labelled ones, without any label."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from nnunet_active.data.cases import CaseStore
from nnunet_active.training.loaders import finish_loader


class Everywhere(Sequence):
    """All voxels of an image, in the form of nnU-Net's ``class_locations``; none is held.

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
    """``class_locations`` without classes: where a data set has an ignore label, nnU-Net draws patches around labelled voxels, and here
    any voxel will do."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.everywhere = Everywhere(shape)

    def __getitem__(self, key: Any) -> Everywhere:
        return self.everywhere

    def __iter__(self) -> Iterator:
        return iter(())

    def __len__(self) -> int:
        return 0


class NoLabel:
    """A label map (1, Z, Y, X) of background, made where it is asked for.

    Args:
        image: (channels, Z, Y, X), read in parts.
        masked: images are 0 outside a mask; -1, nnU-Net's mark for that, stands where all channels are 0.
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
        store: where the images are; a label beside an image is never opened.
        cases: not empty.
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
    """A loader like the trainer's own, of its batch size and with its augmentation, but of unlabelled cases and without oversampling.

    Args:
        trainer: an active trainer that is initialized.
        cases: to draw from.
        make: the trainer's own way to make its two loaders, e.g. nnU-Net's ``get_dataloaders``.
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
