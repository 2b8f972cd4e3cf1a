"""Makes any nnU-Net trainer active: it queries between epochs and trains on the labels as they arrive.

Three lines are enough::

    class nnUNetTrainerMine(ActiveQueryMixin, nnUNetTrainerDA5):
        strategy = "entropy"
        active_epochs = 200
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import torch
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

from nnunet_active.campaign.campaign import Campaign
from nnunet_active.campaign.campaign_start import start_campaign
from nnunet_active.campaign.fine_tuning import FineTuning
from nnunet_active.campaign.pseudo_label_settings import PseudoLabelSettings
from nnunet_active.campaign.settings import PER_CASE, Settings
from nnunet_active.models.source_model import carry_over
from nnunet_active.nnunet.inference import SlidingWindow
from nnunet_active.scoring.encoder import unwrap
from nnunet_active.training.checkpoints import LATEST
from nnunet_active.training.fine_tuned import FineTunedMixin
from nnunet_active.training.loaders import ending_with_their_parent, finish_loaders, reading_from
from nnunet_active.training.saving import SavingMixin
from nnunet_active.training.semi_supervised import PseudoLabelling
from nnunet_active.training.session import QuerySession
from nnunet_active.training.stopping import StoppingMixin
from nnunet_active.training.trainer_schedule import set_schedule
from nnunet_active.training.unlabelled_loader import unlabelled_loader
from nnunet_active.training.validation_folder import set_validation_aside, without_missing_stage
from nnunet_active.util.errors import CampaignError
from nnunet_active.util.ranks import Ranks
from nnunet_active.workspace import Workspace


class ActiveQueryMixin(FineTunedMixin, StoppingMixin, SavingMixin):
    """Mixin to put before an nnU-Net trainer class. The class attributes are the settings if no ``nnunet_active init`` was run.

    Attributes marked (*) also apply if a campaign leaves that setting to the trainer.

    Attributes:
        strategy: name of a registered query strategy.
        active_budget, active_query_size, active_stride, active_one_off: see :class:`~nnunet_active.campaign.settings.Settings`.
        active_epochs, active_iterations, active_val_iterations, active_initial_lr (*): None keeps nnU-Net's own value.
        active_fine_tuning: keyword arguments of :class:`~nnunet_active.campaign.fine_tuning.FineTuning`.
        active_pseudo_labels (*): keyword arguments of :class:`~nnunet_active.campaign.pseudo_label_settings.PseudoLabelSettings`; None
            for no semi-supervised training.
        active_unit, active_per_case: ``case``, or ``slice`` if budget and query size count slices; at most so many slices per scan.
        active_restart (*): ``never`` or ``source``.
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
    active_fine_tuning: ClassVar[dict[str, Any]] = {}
    active_pseudo_labels: ClassVar[dict[str, Any] | None] = None
    active_restart = "never"
    active_unit = "case"
    active_per_case = PER_CASE

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),
    ) -> None:
        # nnU-Net reads this signature and copies the arguments by name, so it must not change
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.session: QuerySession | None = None
        self._loaded_cases: tuple = ()
        self._told = False
        self._validated = ExitStack()
        dataset, plans_name = self.plans_manager.dataset_name, self.plans_manager.plans_name
        self.workspace = Workspace(dataset, self.fold, self.configuration_name, plans_name)
        self.workspace.plans, self.workspace.dataset_json = self.plans_manager.plans, self.dataset_json
        self.pseudo: PseudoLabelling | None = None
        with self.one_sentence():
            settings = self._settings()
            self._schedule = set_schedule(self, settings)
            self.fine_tuning = FineTuning.of(settings.fine_tuning)
            given = self.active_pseudo_labels if settings.pseudo_labels is None else settings.pseudo_labels
            self.pseudo_settings = PseudoLabelSettings.of(given)
        self.restart = settings.restart or self.active_restart

    def _settings(self) -> Settings:
        """The campaign's settings, else the class's own."""
        campaign = self.workspace.found_campaign
        if campaign is not None:
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
            unit=self.active_unit,
            per_case=self.active_per_case,
            fine_tuning=dict(self.active_fine_tuning),
        )

    # --- what nnU-Net calls ------------------------------------------------------------------------------------------------------

    def initialize(self) -> None:
        """Open the campaign, build the network as the stock trainer does, and carry the source's weights over."""
        self.print_to_log_file(self._schedule)
        workspace = self.workspace
        with self.one_sentence():
            store, source, campaign = workspace.store, workspace.source, workspace.found_campaign
            if campaign is None or not (campaign.exhausted or campaign.fold != str(self.fold)):
                self._settings().check_reach(self.num_epochs)
            if campaign is None:
                campaign = workspace.campaign = self._start_campaign()
        # stock code infers the file format from its folder, which may be empty before the first label
        torch.manual_seed(campaign.settings.seed)  # so that a resumed run starts with the same untrained head
        with reading_from(self, store.folder if store.labelled_identifiers() else store.pool_folder):
            super().initialize()
        with self.one_sentence():
            report = carry_over(unwrap(self.network), source, self.plans_manager.plans, self.dataset_json)
        self.source_axes, self.inference_allowed_mirroring_axes = source.mirror_axes, source.mirror_axes or None
        self.print_to_log_file(f"Source network: {source.origin}")
        for line in report.lines():
            self.print_to_log_file(f"  {line}")
        self._stem_weights = self._first_weights()
        self._adapt(report)
        log_file = Path(self.output_folder) / "active_log.jsonl"
        self.session = QuerySession(workspace, self.print_to_log_file, log_file)
        if self.pseudo_settings is not None:
            self.pseudo = PseudoLabelling(self.session, self.pseudo_settings, self.num_epochs)
        self._compare()

    def run_training(self) -> None:
        """Like the stock method, but do not end a finished training again: that would count newer labels as trained on."""
        self._check_campaign()
        if not self.has_ended:
            super().run_training()
            return
        self._say_that_it_has_ended()
        if self.watch is not None:
            self.watch.end(self.current_epoch)  # in case a kill came before it; otherwise nothing is measured again
        if self.local_rank == 0:
            (Path(self.output_folder) / LATEST).unlink(missing_ok=True)

    def on_train_start(self) -> None:
        """Query before the first epoch, or resume where a killed run stopped, before any training data is read."""
        if not self.was_initialized:
            self.initialize()
        self._warn_of_pretrained_weights()
        with self.one_sentence():
            self.session.begin(self.current_epoch)
            self._note_epoch()
            self.describe_model_folder()
            self._query()
            self._begin_comparison()
            if not self._labelled_now():
                raise CampaignError("No case is labelled and none is left to ask for, so there is nothing to train on.")
            self._prepare_mixing()
        super().on_train_start()

    def on_epoch_start(self) -> None:
        """Query if one is due; if the training set has changed, make new data loaders."""
        self._note_epoch()
        with self.one_sentence():
            self._query()
            if self.restart == "source" and self.session.begins_round(self.current_epoch):
                self.print_to_log_file("The round begins again from the source weights.")
                self._restart()
            if self.pseudo is not None:
                if self.current_epoch == self.pseudo.begins_at(self.current_epoch):
                    self._choose_interpolation()
                with self.adaptation.predicting():
                    self.pseudo.update(self.current_epoch, self._window, self.save_here)
            self._prepare_mixing()
        if self._trained_on() != self._loaded_cases:
            finish_loaders(self)
            self.dataloader_train, self.dataloader_val = self.get_dataloaders()
        self.session.seed(self.current_epoch)  # the epoch starts from here, however much the loaders drew to warm up
        super().on_epoch_start()

    def on_train_end(self) -> None:
        """Choose the final interpolation, write the final checkpoint, then compare and release the campaign."""
        self._choose_interpolation()
        super().on_train_end()
        if self.watch is not None:
            self.watch.end(self.current_epoch)
        self.session.end()

    def do_split(self) -> tuple[list[str], list[str]]:
        """Train on the cases labelled so far; validate on the fold's held-out cases (on the training cases if there are none)."""
        train, val = self._labelled_now(), self.session.held_out(self.current_epoch)
        if not val:
            if not self._told:  # nnU-Net asks again for every validation
                self.print_to_log_file("WARNING: no labelled case is held out; validation runs on the training cases.")
                self._told = True
            val = list(train) or self._refuse_nothing()
        self.print_to_log_file(f"This split has {len(train)} training and {len(val)} validation cases.")
        return train, val

    def get_dataloaders(self) -> tuple:
        """Like the stock method, plus a loader of unlabelled cases if these are trained on; the workers end with this process."""
        with ending_with_their_parent():
            if self._unlabelled:
                self.dataloader_unlabelled = unlabelled_loader(self, self._unlabelled, super().get_dataloaders)
            return super().get_dataloaders()

    def get_tr_and_val_datasets(self) -> tuple:
        """Like the stock method, plus pseudo-labelled cases. Infer the file format again: the folder may have been empty before."""
        self._loaded_cases = self._trained_on()
        with reading_from(self, self.session.known_slices.folder):
            self.dataset_class = infer_dataset_class(self.preprocessed_dataset_folder)
            train, val = super().get_tr_and_val_datasets()
        return (train if self.pseudo is None else self.pseudo.mixed(train)), val

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Like the stock method; first set aside earlier predictions of cases that are not held out any more."""
        if self.local_rank == 0:
            moved = set_validation_aside(Path(self.output_folder), self.do_split()[1], self.dataset_json["file_ending"])
            if moved:
                self.print_to_log_file(
                    f"Earlier predictions of {', '.join(moved)} were set aside: not held out any more."
                )
        with without_missing_stage(self):
            super().perform_actual_validation(save_probabilities)

    # --- our own -----------------------------------------------------------------------------------------------------------------

    def _start_campaign(self) -> Campaign:
        """Start a campaign: rank 0 writes it, all ranks read it."""
        workspace = self.workspace
        started: list[Campaign] = []

        def start() -> None:
            started.append(
                start_campaign(workspace.place, self._settings(), log=self.print_to_log_file, cases=workspace.stored)
            )

        Ranks().decide(start)
        return started[0] if started else Campaign.open(workspace.folder, workspace.fold)

    def _note_epoch(self) -> None:
        self.session.note_epoch(type(self).__name__, self.current_epoch, self.num_epochs)

    def _labelled_now(self) -> list[str]:
        return self.session.labelled(self.current_epoch)

    def _trained_on(self) -> tuple:
        """The training set that the loaders were made for."""
        held_out = self.session.held_out(self.current_epoch)
        reliable = () if self.pseudo is None else self.pseudo.key
        return self.session.labels(self.current_epoch), held_out, reliable, self._unlabelled

    def _query(self) -> None:
        self.session.seed(self.current_epoch)
        if self.current_epoch >= self.num_epochs:
            return  # killed after the last epoch: an answer to a query now would not be trained on
        if self.session.is_query_due(self.current_epoch):
            self._choose_interpolation()
        with self.adaptation.predicting():
            self.session.query_if_due(
                self.current_epoch,
                self.network,
                self.device,
                self._before_query,
                self._mirrored_axes,
            )
        waiting = self.session.take_up_labels(self.current_epoch)
        if waiting:
            self._stop_for_labels(waiting)
        self.session.prepare_known_slices(self.current_epoch)
        self._compare_on_new_labels()

    def _window(self) -> SlidingWindow:
        return self.session.window(self.network, self.device, self._mirrored_axes)

    def _before_query(self) -> None:
        self.save_here()
        if self.watch is not None:
            self.watch.after_round(self.current_epoch)
