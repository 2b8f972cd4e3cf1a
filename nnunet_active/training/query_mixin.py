"""Makes any nnU-Net trainer active: it queries between epochs and trains on the labels as they arrive.

Three lines are enough::

    class nnUNetTrainerMine(ActiveQueryMixin, nnUNetTrainerDA5):
        strategy = "entropy"
        active_epochs = 200
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from torch import distributed

from nnunet_active.campaign import Campaign
from nnunet_active.campaign_start import open_store, start_campaign
from nnunet_active.errors import ActiveError, CampaignError
from nnunet_active.nnunet_paths import results_root
from nnunet_active.ranks import Ranks
from nnunet_active.scoring.embedding import unwrap
from nnunet_active.settings import Settings
from nnunet_active.source_model import carry_over
from nnunet_active.training.checkpoints import restamp
from nnunet_active.training.loaders import finish_loaders
from nnunet_active.training.session import QuerySession
from nnunet_active.training.source_weights import find_source


class ActiveQueryMixin:
    """Put it before an nnU-Net trainer class. The class attributes count where no ``nnunet_active init`` was run.

    Attributes:
        strategy: name of a registered query strategy.
        active_budget, active_query_size, active_stride, active_one_off: see :class:`~nnunet_active.settings.Settings`.
        active_epochs, active_iterations, active_val_iterations, active_initial_lr: None leaves the trainer's own value.
    """

    strategy = "random"
    active_budget = 3
    active_query_size = 1
    active_one_off = False
    active_stride = 40
    active_epochs: int | None = None
    active_iterations: int | None = None
    active_val_iterations: int | None = None
    active_initial_lr: float | None = None

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),
    ) -> None:
        # nnU-Net reads this signature and copies these very names; it must stay as it is
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.session: QuerySession | None = None
        self._loaded_cases: list[str] = []
        self._base = Path(self.preprocessed_dataset_folder_base)
        with self._one_sentence():
            settings = self._settings()
        own = {
            "num_epochs": settings.epochs,
            "num_iterations_per_epoch": settings.iterations,
            "num_val_iterations_per_epoch": settings.val_iterations,
            "initial_lr": settings.initial_lr,
        }
        for name, value in own.items():
            if value is not None:
                setattr(self, name, value)

    def _has_campaign(self) -> bool:
        return (Campaign.folder_of(self._base, self.fold) / "campaign.json").is_file()

    def _settings(self) -> Settings:
        """Those of the campaign, else the class's own."""
        if self._has_campaign():
            campaign = Campaign.open(self._base, self.fold)
            found, here = (
                (campaign.plans, campaign.configuration),
                (self.plans_manager.plans_name, self.configuration_name),
            )
            if found != here:
                raise CampaignError(
                    f"The campaign of fold {self.fold} is for {' '.join(found)}, this training is {' '.join(here)}; train that, "
                    f"use another fold, or start anew with nnunet_active init ... --restart."
                )
            return campaign.settings
        return Settings(
            strategy=self.strategy,
            budget=self.active_budget,
            query_size=self.active_query_size,
            one_off=self.active_one_off,
            stride=self.active_stride,
            epochs=self.active_epochs if self.active_epochs is not None else self.num_epochs,
            iterations=self.active_iterations,
            val_iterations=self.active_val_iterations,
            initial_lr=self.active_initial_lr,
        )

    # --- what nnU-Net calls ------------------------------------------------------------------------------------------------------

    def initialize(self) -> None:
        """Open the campaign, build the network as the stock trainer does, and carry the source's weights over."""
        dataset, plans, configuration = (
            self.plans_manager.dataset_name,
            self.plans_manager.plans_name,
            self.configuration_name,
        )
        with self._one_sentence():
            store = open_store(dataset, plans, configuration)
            source = find_source(self._base, plans, configuration, str(self.fold), results_root())
            if not self._has_campaign():
                Ranks().decide(
                    lambda: (
                        start_campaign(
                            dataset, configuration, plans, str(self.fold), self._settings(), log=self.print_to_log_file
                        ).folder
                    )
                )
            campaign = Campaign.open(self._base, self.fold)
        # stock code looks into its folder for the file format; before the first label there may be nothing in it
        stock = self.preprocessed_dataset_folder
        if not store.labelled_identifiers():
            self.preprocessed_dataset_folder = str(store.pool_folder)
        try:
            super().initialize()
        finally:
            self.preprocessed_dataset_folder = stock
        with self._one_sentence():
            report = carry_over(unwrap(self.network), source, self.plans_manager.plans, self.dataset_json)
        self.inference_allowed_mirroring_axes = source.mirror_axes
        self.print_to_log_file(f"Source network: {source.origin}")
        for line in report.lines():
            self.print_to_log_file(f"  {line}")
        self._stem_weights = self._first_weights()
        self.session = QuerySession(
            campaign,
            store,
            self.plans_manager.plans,
            self.dataset_json,
            self.print_to_log_file,
            Path(self.output_folder) / "active_log.jsonl",
        )

    def on_train_start(self) -> None:
        """Query before the first epoch, or take up what a killed run left behind, before any training data is read."""
        if not self.was_initialized:
            self.initialize()
        self._warn_of_pretrained_weights()
        with self._one_sentence():
            self.session.begin()
            self._query()
            if not self._labelled_now():
                raise CampaignError("No case is labelled and none is left to ask for, so there is nothing to train on.")
        super().on_train_start()

    def on_epoch_start(self) -> None:
        """Query where it is due; a changed training set means new data loaders."""
        with self._one_sentence():
            self._query()
        if self._labelled_now() != self._loaded_cases:
            finish_loaders(self)
            self.dataloader_train, self.dataloader_val = self.get_dataloaders()
        self.session.seed(self.current_epoch)  # whatever the loaders drew to warm up, the epoch begins from here
        super().on_epoch_start()

    def on_train_end(self) -> None:
        """Let go of the campaign once the final checkpoint is written."""
        super().on_train_end()
        self.session.end()

    def do_split(self) -> tuple[list[str], list[str]]:
        """Train on what is labelled by now, validate on the fold's held-out cases (on the training cases where there are none)."""
        train, val = self._labelled_now(), list(self.session.campaign.val)
        if not val:
            self.print_to_log_file("WARNING: no labelled case is held out; validation runs on the training cases.")
            val = list(train)
        self.print_to_log_file(f"This split has {len(train)} training and {len(val)} validation cases.")
        return train, val

    def get_tr_and_val_datasets(self) -> tuple:
        """As the stock one; the file format is looked up again, since the folder may have been empty at first."""
        self.dataset_class = infer_dataset_class(self.preprocessed_dataset_folder)
        self._loaded_cases = self._labelled_now()
        return super().get_tr_and_val_datasets()

    def save_checkpoint(self, filename: str) -> None:
        """As the stock one, in one step, and readable where this package is not installed."""
        if self.local_rank > 0 or self.disable_checkpointing:
            super().save_checkpoint(filename)
            return
        final = Path(filename)
        temporary = final.with_name(f".{final.name}.tmp")
        super().save_checkpoint(str(temporary))
        restamp(temporary, final, type(self), {"labelled": self._labelled_now()})

    # --- our own -----------------------------------------------------------------------------------------------------------------

    def _labelled_now(self) -> list[str]:
        return self.session.campaign.labelled(self.current_epoch)

    def _query(self) -> None:
        self.session.seed(self.current_epoch)
        self.session.query_if_due(
            self.current_epoch,
            self.network,
            self.device,
            self._save_before_query,
            self.inference_allowed_mirroring_axes,
        )
        waiting = self.session.take_up_labels(self.current_epoch)
        if waiting:
            self._stop_for_labels(waiting)

    def _save_before_query(self) -> None:
        """A checkpoint that resumes exactly here. The stock code stores current_epoch + 1, as it saves before it counts up."""
        self.current_epoch -= 1
        try:
            self.save_checkpoint(str(Path(self.output_folder) / "checkpoint_latest.pth"))
        finally:
            self.current_epoch += 1

    def _stop_for_labels(self, waiting: list[str]) -> None:
        campaign, plans = self.session.campaign, self.plans_manager
        device = "" if self.device.type == "cuda" else f" -device {self.device.type}"
        command = f"nnUNetv2_train {plans.dataset_name} {self.configuration_name} {self.fold} -tr {type(self).__name__}"
        self.print_to_log_file(
            f"\nPlease label: {', '.join(waiting)}\n"
            f"The worklist is {campaign.rounds[-1].folder / 'worklist.csv'}.\n"
            f"Put each label into labelsTr of {plans.dataset_name} (CASE{self.dataset_json['file_ending']}), then go on with\n"
            f"    {command} -p {plans.plans_name}{device} --c\n",
            add_timestamp=False,
        )
        self._leave()
        raise SystemExit(0)

    def _leave(self) -> None:
        """Nothing of ours may keep the process, or the campaign, from ending."""
        finish_loaders(self)
        if self.session is not None:
            self.session.end()
        if distributed.is_available() and distributed.is_initialized():
            distributed.barrier()

    @contextmanager
    def _one_sentence(self) -> Iterator[None]:
        """A user's mistake ends the stock command with one sentence and exit code 2, without a traceback."""
        try:
            yield
        except ActiveError as error:
            self.print_to_log_file(f"\n{error}\n", add_timestamp=False)
            self._leave()
            raise SystemExit(error.exit_code) from None

    def _first_weights(self) -> torch.Tensor:
        return next(iter(unwrap(self.network).state_dict().values())).detach().cpu().clone()

    def _warn_of_pretrained_weights(self) -> None:
        """-pretrained_weights replaces all but the head: the first query would then come from a mixture of two networks."""
        if self.current_epoch == 0 and not torch.equal(self._first_weights(), self._stem_weights):
            self.print_to_log_file(
                "WARNING: the network is not the source network any more: -pretrained_weights replaces all but the segmentation "
                "head. Leave that flag away; this trainer carries the whole source network over by itself, head included."
            )
