"""Where a campaign lives: a data set, a configuration, plans, and a fold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nnunet_active.data.campaign_files import campaign_file
from nnunet_active.nnunet.nnunet_paths import preprocessed_folder


@dataclass(frozen=True)
class Place:
    """What a campaign belongs to.

    Attributes:
        dataset_folder: ``nnUNet_preprocessed/DatasetXXX``.
        configuration: nnU-Net configuration.
        plans: plans identifier.
        fold: number as text, or ``all``.
    """

    dataset_folder: Path
    configuration: str
    plans: str
    fold: str = "0"

    @classmethod
    def of(cls, dataset: str, configuration: str, plans: str, fold: str) -> Place:
        """By the full name of the data set."""
        return cls(preprocessed_folder(dataset), configuration, plans, fold)

    @property
    def dataset(self) -> str:
        """Full name of the data set."""
        return self.dataset_folder.name

    @property
    def campaign_folder(self) -> Path:
        """Where the campaign's files are."""
        return campaign_file(self.dataset_folder, self.fold).parent
