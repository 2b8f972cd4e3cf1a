"""One data set and one fold, as a command or a trainer's query sees it: each piece is opened once, when it is first needed.

A command makes one workspace and passes it on. Nothing here writes, decides or computes; an opened piece stays unchanged until
somebody replaces it (``workspace.campaign = ...`` after starting one). Code for networks is imported only when
needed: that takes seconds, and the state of a campaign is known without it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.cross_validation import campaign_for
from nnunet_active.campaign.oracle import Oracle, oracle_of
from nnunet_active.campaign.place import Place
from nnunet_active.campaign.settings import Settings
from nnunet_active.commands import DEFAULT_PLANS, Commands
from nnunet_active.data.campaign_files import campaign_files
from nnunet_active.data.cases import CaseStore, make_store
from nnunet_active.data.dataset_json import distinct_channel_names, used_dataset_json
from nnunet_active.data.plans import read_plans
from nnunet_active.data.raw_dataset import RawDataset, read_pool_folders
from nnunet_active.models.model_files import DEFAULT_CHECKPOINT
from nnunet_active.nnunet.nnunet_paths import preprocessed_folder, raw_folder, results_root
from nnunet_active.util.errors import ActiveError, CampaignError, MissingInput
from nnunet_active.util.log import Log

if TYPE_CHECKING:
    from nnunet_active.models.source_model import SourceModel


class Workspace:
    """The pieces of one data set.

    Args:
        dataset: full name.
        fold: number, or ``all``.
        configuration: nnU-Net configuration; None for the campaign's, else the only possible one.
        plans_name: plans identifier; None for the campaign's, or the default one if there is no campaign.
    """

    def __init__(
        self, dataset: str, fold: str | int = "0", configuration: str | None = None, plans_name: str | None = None
    ) -> None:
        self.dataset = dataset
        self.fold = str(fold)
        self.named_configuration, self._plans_name = configuration, plans_name
        self._models: dict[tuple, SourceModel] = {}

    @classmethod
    def of(cls, campaign: Campaign) -> Workspace:
        """The workspace of an opened campaign."""
        workspace = cls(campaign.dataset_folder.name, campaign.fold, campaign.configuration, campaign.plans)
        workspace.campaign = campaign
        return workspace

    @property
    def folder(self) -> Path:
        """``nnUNet_preprocessed/DatasetXXX``; it may not exist yet."""
        return preprocessed_folder(self.dataset)

    @cached_property
    def raw(self) -> RawDataset:
        """The scans, including the remembered pool folders.

        Raises:
            MissingInput: the raw data set does not exist.
        """
        return RawDataset(raw_folder(self.dataset), read_pool_folders(self.folder))

    @cached_property
    def found_campaign(self) -> Campaign | None:
        """The campaign of the fold, or one whose cross-validation covers it; None if there is none."""
        return campaign_for(self.folder, self.fold)

    @property
    def campaign(self) -> Campaign:
        """The same campaign, which must exist.

        Raises:
            MissingInput: there is none; the message says how to start one.
        """
        if self.found_campaign is None:
            return Campaign.open(self.folder, self.fold)
        return self.found_campaign

    @campaign.setter
    def campaign(self, campaign: Campaign) -> None:
        self.found_campaign = campaign

    @property
    def configuration(self) -> str:
        """nnU-Net configuration: the one that was named, else the campaign's, else the only possible one.

        Raises:
            MissingInput: see :attr:`only_configuration`.
        """
        if self.named_configuration is not None:
            return self.named_configuration
        campaign = self.found_campaign
        return (
            self.only_configuration if campaign is None or campaign.plans != self.plans_name else campaign.configuration
        )

    @cached_property
    def only_configuration(self) -> str:
        """The only configuration of the plans, else the only one among the data set's campaigns with these plans.

        Raises:
            MissingInput: there are no plans, or several configurations; the message names them.
        """
        planned, begun = list(self.plans["configurations"]), set()
        for fold in campaign_files(self.folder) if len(planned) > 1 else ():
            with suppress(ActiveError):
                campaign = Campaign.open(self.folder, fold)
                begun |= {campaign.configuration} & set(planned) if campaign.plans == self.plans_name else set()
        if len(planned) != 1 and len(begun) != 1:
            raise MissingInput(
                f"The plans {self.plans_name} of {self.dataset} hold {', '.join(planned) or 'none'}: name the configuration with -c."
            )
        return planned[0] if len(planned) == 1 else begun.pop()

    def check_is_the_campaigns(self, configuration: str | None, plans: str | None) -> None:
        """Refuse a configuration or plans, if they are named, that are not those of the campaign.

        Raises:
            CampaignError: names both.
        """
        campaign = self.campaign
        for flag, wanted, there in (("-p", plans, campaign.plans), ("-c", configuration, campaign.configuration)):
            if wanted is not None and wanted != there:
                raise CampaignError(
                    f"The campaign of fold {campaign.fold} is for {flag} {there}, not {wanted}; use another fold with -f."
                )

    def tell_configuration(self, log: Log) -> None:
        """Log which configuration is used if nobody named one and there is no campaign; without plans, log nothing.

        Raises:
            MissingInput: several are possible; see :attr:`only_configuration`.
        """
        if self.named_configuration is None and self.found_campaign is None and self.plans_file.is_file():
            log(f"Configuration: {self.configuration}, the only one in use with the plans {self.plans_name}.")

    @property
    def plans_name(self) -> str:
        """Plans identifier."""
        if self._plans_name is not None:
            return self._plans_name
        return DEFAULT_PLANS if self.found_campaign is None else self.found_campaign.plans

    @property
    def place(self) -> Place:
        """The place of a campaign that is started now."""
        return Place.of(self.dataset, self.configuration, self.plans_name, self.fold)

    @property
    def plans_file(self) -> Path:
        """Where the plans are, or will be."""
        return self.folder / f"{self.plans_name}.json"

    @cached_property
    def plans(self) -> dict:
        """Content of the plans file.

        Raises:
            MissingInput: it does not exist; the message says how to make it.
        """
        return read_plans(self.dataset, self.plans_name)

    @cached_property
    def dataset_json(self) -> dict:
        """The target's ``dataset.json``: nnU-Net reads the labels from the copy beside the plans, if there is one."""
        return used_dataset_json(self.folder, lambda: self.raw.dataset_json)

    @cached_property
    def store(self) -> CaseStore:
        """The preprocessed cases.

        Raises:
            MissingInput: the plans, or the configuration in them, do not exist.
        """
        return make_store(self.dataset, self.plans, self.configuration)

    @cached_property
    def source(self) -> SourceModel:
        """The source network.

        Raises:
            MissingInput: there is none; the message says how to name one.
        """
        from nnunet_active.models.source_model import find_source

        try:
            results = results_root()
        except MissingInput:
            results = None
        return find_source(self.folder, self.plans_name, self.configuration, self.fold, results)

    def model(
        self, path: Path, fold: str | None = None, checkpoint: str = DEFAULT_CHECKPOINT, trust: bool = False
    ) -> SourceModel:
        """A trained model of this configuration; see :func:`~nnunet_active.models.source_model.read_source_model`."""
        from nnunet_active.models.source_model import read_source_model

        key = (Path(path), fold, checkpoint)
        if key not in self._models:
            self._models[key] = read_source_model(path, self.configuration, fold, checkpoint, trust)
        return self._models[key]

    @property
    def oracle(self) -> Oracle:
        """Who answers the campaign's requests."""
        return oracle_of(self.campaign, self.store)

    def candidates(self, raw: RawDataset | None = None) -> list[str]:
        """The preprocessed cases that may still be asked for, sorted; ``raw``: see :meth:`not_withdrawn`."""
        return self.campaign.pool(self.not_withdrawn(self.oracle.candidates(), raw))

    def not_withdrawn(self, cases: Iterable[str], raw: RawDataset | None = None) -> list[str]:
        """Those of the cases whose images are in the raw data set: others were taken out of it after preprocessing. All of them where
        no raw image is, as on a machine that only trains.

        Args:
            cases: preprocessed cases.
            raw: the data set, if it has just been read; None: it is read now, since scans come and go while a training runs.
        """
        there: Collection[str] = () if raw is None else raw.cases
        if raw is None:
            with suppress(ActiveError):
                there = RawDataset(raw_folder(self.dataset), read_pool_folders(self.folder)).cases
        return [case for case in cases if case in there or not there]

    @property
    def stored(self) -> tuple[list[str], list[str]]:
        """The preprocessed cases with a label, and those without."""
        return self.store.labelled_identifiers(), self.store.pool_identifiers()

    @property
    def channel_names(self) -> list[str]:
        """Names of the image channels, all different."""
        return distinct_channel_names(self.dataset_json)

    @property
    def class_names(self) -> list[str]:
        """Names of the network's heads."""
        from nnunet_active.nnunet.networks import head_names

        return head_names(self.plans, self.dataset_json)

    @property
    def trainer(self) -> str:
        """The trainer in the commands of the campaign; without a campaign, that of one with the default settings."""
        return (Settings() if self.found_campaign is None else self.found_campaign.settings).trainer

    @property
    def commands(self) -> Commands:
        """The commands for this data set: its plans, its configuration, and the fold of its campaign."""
        fold = self.fold if self.found_campaign is None else self.found_campaign.fold
        return Commands(self.dataset, self.configuration, self.plans_name, fold)
