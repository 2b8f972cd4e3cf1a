"""What a campaign belongs to: a data set, a configuration, plans and a fold."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nnunet_active.data.campaign_files import campaign_file
from nnunet_active.nnunet.nnunet_paths import preprocessed_folder, raw_root
from nnunet_active.util.errors import MissingInput


@dataclass(frozen=True)
class Place:
    """Data set, configuration, plans and fold of a campaign.

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
        """The place, from the full name of the data set."""
        return cls(preprocessed_folder(dataset), configuration, plans, fold)

    @property
    def dataset(self) -> str:
        """Full name of the data set."""
        return self.dataset_folder.name

    def in_the_raw_data(self, recorded: Path) -> Path:
        """The present path of a folder recorded inside ``nnUNet_raw/DatasetXXX``: it moves along with the data set, and a copied data
        set has its own. A folder that is elsewhere, or not found in the present ``nnUNet_raw``, keeps its recorded path."""
        above = next((one for one in recorded.parents if one.name == self.dataset), None)
        if above is None or (recorded.is_dir() and not (above / "dataset.json").is_file()):
            return recorded  # a folder on a share may be called after the data set, too
        inner = recorded.relative_to(above)
        with suppress(MissingInput):  # nnUNet_raw is not set; not every command needs it
            here = (raw_root() / self.dataset / inner).absolute()
            return here if here.is_dir() else recorded
        return recorded

    @property
    def campaign_folder(self) -> Path:
        """The folder of the campaign's files."""
        return campaign_file(self.dataset_folder, self.fold).parent
