"""Makes any nnU-Net trainer active: it queries between epochs and trains on the labels as they arrive.

Three lines are enough::

    class nnUNetTrainerMine(ActiveQueryMixin, nnUNetTrainerDA5):
        strategy = "entropy"
        active_epochs = 200
"""

from __future__ import annotations

import json
import random
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from torch import distributed

from nnunet_active.campaign import Campaign
from nnunet_active.campaign_start import make_oracle, open_store, start_campaign
from nnunet_active.errors import ActiveError, CampaignError, EmptyPool
from nnunet_active.inference import SlidingWindow
from nnunet_active.networks import channel_names, head_names
from nnunet_active.nnunet_paths import results_root
from nnunet_active.ranks import Ranks
from nnunet_active.scoring.embedding import unwrap
from nnunet_active.selector import run_query
from nnunet_active.settings import Settings
from nnunet_active.source_model import carry_over
from nnunet_active.training.checkpoints import restamp
from nnunet_active.training.loaders import finish_loaders
from nnunet_active.training.source_weights import find_source

WAIT_SECONDS = 30


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
        self.ranks = Ranks()
        self.campaign: Campaign | None = None
        self._guards = ExitStack()
        self._loaded_cases: list[str] = []
        self._base = Path(self.preprocessed_dataset_folder_base)
        with _one_sentence(self):
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

    def _settings(self) -> Settings:
        """Those of the campaign, else the class's own."""
        if (Campaign.folder_of(self._base, self.fold) / "campaign.json").is_file():
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
        epochs = self.active_epochs if self.active_epochs is not None else self.num_epochs
        return Settings(
            strategy=self.strategy,
            budget=self.active_budget,
            query_size=self.active_query_size,
            one_off=self.active_one_off,
            stride=self.active_stride,
            epochs=epochs,
            iterations=self.active_iterations,
            val_iterations=self.active_val_iterations,
            initial_lr=self.active_initial_lr,
        )

    # --- setting up ------------------------------------------------------------------------------------------------------------

    def initialize(self) -> None:
        """Open the campaign, build the network as the stock trainer does, and carry the source's weights over."""
        with _one_sentence(self):
            dataset, plans = self.plans_manager.dataset_name, self.plans_manager.plans_name
            self.store = open_store(dataset, plans, self.configuration_name)
            if not (Campaign.folder_of(self._base, self.fold) / "campaign.json").is_file():
                self.ranks.decide(
                    lambda: (
                        start_campaign(
                            dataset, self.configuration_name, plans, str(self.fold), self._settings(), log=self._log
                        ).folder
                    )
                )
            self.campaign = Campaign.open(self._base, self.fold)
            self.source = find_source(self._base, plans, self.configuration_name, str(self.fold), results_root())
            # stock code looks into this folder for its file format; before the first label it may be empty
            stock, self.preprocessed_dataset_folder = self.preprocessed_dataset_folder, str(self._filled_folder())
            try:
                super().initialize()
            finally:
                self.preprocessed_dataset_folder = stock
            report = carry_over(unwrap(self.network), self.source, self.plans_manager.plans, self.dataset_json)
        self.inference_allowed_mirroring_axes = self.source.mirror_axes
        self._log(f"Source network: {self.source.origin}, fold {self.source.fold}")
        for line in report.lines():
            self._log(f"  {line}")
        self._stem_weights = self._first_weights()

    def _filled_folder(self) -> Path:
        stock = Path(self.preprocessed_dataset_folder)
        return stock if stock.is_dir() and any(stock.iterdir()) else self.store.pool_folder

    def _first_weights(self) -> torch.Tensor:
        return next(iter(unwrap(self.network).state_dict().values())).detach().cpu().clone()

    def _log(self, text: str) -> None:
        self.print_to_log_file(text)

    def _log_json(self, **content: Any) -> None:
        """nnU-Net's logger takes its own keys only, so ours go into a file beside it, one JSON object per line."""
        if self.ranks.rank == 0:
            with (Path(self.output_folder) / "active_log.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps({"time": time.time(), "epoch": self.current_epoch, **content}) + "\n")

    # --- the hooks ---------------------------------------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        """Query before the first epoch, or take up what a killed run left behind, before any training data is read."""
        if not self.was_initialized:
            self.initialize()
        with _one_sentence(self):
            if self.ranks.rank == 0:
                self._guards.enter_context(self.campaign.lock())
            self.ranks.decide(lambda: None)
            self.campaign.state = Campaign.open(self._base, self.fold).state
            self._warn_of_pretrained_weights()
            self._seed()
            self._query_if_due()
            self._take_up_labels()
            if not self.campaign.labelled(self.current_epoch):
                raise CampaignError(
                    "No case is labelled and none is left to ask for, so that there is nothing to train on."
                )
        super().on_train_start()

    def on_epoch_start(self) -> None:
        """Query where it is due; a changed training set means new data loaders."""
        with _one_sentence(self):
            self._seed()
            if self.current_epoch > 0 and self.campaign.query_due(self.current_epoch):
                self._query_if_due()
            self._take_up_labels()
        if self.campaign.labelled(self.current_epoch) != self._loaded_cases:
            finish_loaders(self)
            self.dataloader_train, self.dataloader_val = self.get_dataloaders()
        self._seed()  # whatever the loaders drew to warm up, the epoch begins from here
        super().on_epoch_start()

    def on_train_end(self) -> None:
        """Free the campaign once the final checkpoint is written."""
        super().on_train_end()
        self._guards.close()

    def do_split(self) -> tuple[list[str], list[str]]:
        """Train on what is labelled by now, validate on the fold's held-out cases (the training cases where there are none)."""
        train = self.campaign.labelled(self.current_epoch)
        val = list(self.campaign.val)
        if not val:
            self._log("WARNING: no labelled case is held out; validation runs on the training cases.")
            val = list(train)
        self._log(f"This split has {len(train)} training and {len(val)} validation cases.")
        return list(train), val

    def get_tr_and_val_datasets(self) -> tuple:
        """As the stock one; the file format is looked up again, since the folder may have been empty at first."""
        self.dataset_class = infer_dataset_class(self.preprocessed_dataset_folder)
        self._loaded_cases = self.campaign.labelled(self.current_epoch)
        return super().get_tr_and_val_datasets()

    def save_checkpoint(self, filename: str) -> None:
        """As the stock one, in one step, and readable where this package is not installed."""
        if self.ranks.rank > 0 or self.disable_checkpointing:
            super().save_checkpoint(filename)
            return
        final = Path(filename)
        temporary = final.with_name(f".{final.name}.tmp")
        super().save_checkpoint(str(temporary))
        restamp(temporary, final, type(self), {"labelled": self.campaign.labelled(self.current_epoch)})

    # --- querying ----------------------------------------------------------------------------------------------------------------

    def _seed(self) -> None:
        """Begin every epoch from a state that depends on the seed and the epoch alone, so that a resumed run repeats itself.

        This covers everything that is drawn in the main process; augmentation workers (nnUNet_n_proc_DA > 0) draw on their own.
        """
        seed = int(
            np.random.SeedSequence([self.campaign.settings.seed, self.current_epoch, self.ranks.rank]).generate_state(
                1
            )[0]
        )
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - nnU-Net and batchgenerators draw from the legacy generator
        torch.manual_seed(seed)

    def _query_if_due(self) -> None:
        if not self.campaign.query_due(self.current_epoch):
            return
        self._save_before_query()
        plans = self.plans_manager.plans
        oracle = self._oracle()
        candidates = self.campaign.pool(oracle.candidates())
        if not candidates:
            self._log("No unlabelled case is left to choose from; training goes on with what is labelled.")
            return
        self._log(
            f"\nQuery {len(self.campaign.rounds) + 1} of {self.campaign.settings.queries}: scoring {len(candidates)} cases"
        )
        window = SlidingWindow(self.network, plans, self.configuration_name, self.dataset_json, self.device)
        start = time.perf_counter()
        try:
            made = run_query(
                self.campaign,
                self.store,
                window,
                candidates,
                self.current_epoch,
                channel_names(self.dataset_json),
                head_names(plans, self.dataset_json),
                self.ranks,
                self._log,
            )
        except EmptyPool as end:
            self._log(f"{end} Training goes on with what is labelled.")
            return
        self._log_json(
            event="query", round=made.number, requested=list(made.requested), seconds=time.perf_counter() - start
        )

    def _save_before_query(self) -> None:
        """A checkpoint that resumes exactly here. The stock code stores current_epoch + 1, as it saves before it counts up."""
        self.current_epoch -= 1
        self.save_checkpoint(str(Path(self.output_folder) / "checkpoint_latest.pth"))
        self.current_epoch += 1

    def _oracle(self) -> Any:
        return make_oracle(self.campaign.settings.oracle, self.plans_manager.dataset_name, self.store)

    def _take_up_labels(self) -> None:
        """Ask the oracle for what is still open; stop with the command to go on, or wait, where a person has to label first."""
        told = False
        while waiting := self.campaign.waiting():
            refused = self.ranks.decide(lambda cases=tuple(waiting): self._reveal(cases))
            self.campaign.state = Campaign.open(self._base, self.fold).state
            for sentence in refused.values():
                self._log(f"WARNING: {sentence}")
            if not (waiting := self.campaign.waiting()):
                return
            if not self.campaign.settings.wait:
                self._stop_for_labels(waiting)
            if not told:
                self._log(
                    f"Waiting for the labels of {', '.join(waiting)} in labelsTr; put them there, or stop with Ctrl-C."
                )
                told = True
            time.sleep(WAIT_SECONDS)

    def _reveal(self, cases: tuple[str, ...]) -> dict[str, str]:
        ready, refused = self._oracle().reveal(cases)
        new = self.campaign.mark_labelled(ready)
        if new:
            self._log(f"Labelled: {', '.join(new)}. Training set: {len(self.campaign.labelled())} cases.")
            self._log_json(event="labelled", cases=new)
        return refused

    def _stop_for_labels(self, waiting: list[str]) -> None:
        worklist = self.campaign.rounds[-1].folder / "worklist.csv"
        device = "" if self.device.type == "cuda" else f" -device {self.device.type}"
        self._log(
            f"\nPlease label: {', '.join(waiting)}\n"
            f"The worklist is {worklist}.\n"
            f"Put each label into labelsTr of {self.plans_manager.dataset_name} (CASE{self.dataset_json['file_ending']}), "
            f"then go on with\n"
            f"    nnUNetv2_train {self.plans_manager.dataset_name} {self.configuration_name} {self.fold} "
            f"-tr {type(self).__name__} -p {self.plans_manager.plans_name}{device} --c\n"
        )
        finish_loaders(self)
        self._guards.close()
        if self.ranks.shared:
            distributed.barrier()
        raise SystemExit(0)

    def _warn_of_pretrained_weights(self) -> None:
        """-pretrained_weights would leave the head as it was and replace the rest: the first query would mix two networks."""
        if self.current_epoch == 0 and not torch.equal(self._first_weights(), self._stem_weights):
            self._log(
                "WARNING: the network is not the source network any more: -pretrained_weights replaces all but the segmentation head. "
                "Leave that flag away; the whole source network, head included, is carried over by this trainer itself."
            )


class _one_sentence:
    """A user's mistake inside the stock ``nnUNetv2_train`` ends it with one sentence and exit code 2, without a traceback."""

    def __init__(self, trainer: ActiveQueryMixin) -> None:
        self.trainer = trainer

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ActiveError):
            self.trainer.print_to_log_file(f"\n{error}\n")
            finish_loaders(self.trainer)
            guards = getattr(self.trainer, "_guards", None)
            if guards is not None:
                guards.close()
            raise SystemExit(error.exit_code or 2) from None
