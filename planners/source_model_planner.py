"""Plans for a target data set from a trained source model alone.

nnU-Net plans from a fingerprint of labelled images. A mostly unlabelled target has none, and its network is fixed: it must
be the source's, with images prepared as the source's were. So everything that the network sees comes from the source
(architecture, patch, batch, spacing, axis order, normalisation, intensity statistics), and everything about the files
from the target (name, reader, file ending, labels).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_active.commands import DEFAULT_PLANS
from nnunet_active.data.dataset_json import channel_names
from nnunet_active.data.plans import fingerprint_of
from nnunet_active.data.raw_dataset import RawDataset, read_pool_folders
from nnunet_active.models.model_writing import save_source_model
from nnunet_active.models.name_mapping import ChannelMapping, map_channels
from nnunet_active.models.source_model import (
    DEFAULT_CHECKPOINT,
    SourceModel,
    carry_over,
    read_source_model,
    source_folder,
)
from nnunet_active.models.weight_transfer import TransferReport
from nnunet_active.nnunet import nnunet_paths
from nnunet_active.nnunet.networks import build_network, find_trainer_class
from nnunet_active.nnunet.safe_checkpoint import weights_digest
from nnunet_active.planners.channel_normalisation import map_normalisation
from nnunet_active.planners.image_reader import choose_reader
from nnunet_active.planners.plans_file import merge_plans, reader_in_use, what_is_replaced
from nnunet_active.util.atomic import write_json
from nnunet_active.util.errors import ActiveError, IncompatibleSource, MissingInput

_TAKEN = ("dataset", "dataset_fingerprint", "splits_final")  # nnU-Net's own files beside the plans


def read_sources(
    path: str | Path,
    configurations: Sequence[str] | None = None,
    fold: str | int | None = None,
    checkpoint: str = DEFAULT_CHECKPOINT,
    trust: bool = False,
) -> list[SourceModel]:
    """The source model of every wanted configuration, from one place; see `read_source_model`."""
    return [read_source_model(path, one, fold, checkpoint, trust) for one in configurations or [None]]


class SourceModelPlanner:
    """Make and write the plans of a target data set from one source model per configuration.

    Normalisation and intensity statistics follow the channels, see `channel_normalisation.map_normalisation`.

    Args:
        raw_dataset: ``nnUNet_raw/DatasetXXX`` of the target; or the data set as read, with pool folders that are not remembered yet.
        source: a source model, several (one per configuration), or a path for `read_sources`.
        configurations: which configurations to plan; None for those of ``source``.
        plans_name: name of the plans file; a configuration is added to an existing one of ours.
        preprocessed_dataset_folder: where to write; by default ``nnUNet_preprocessed/DatasetXXX``.

    Raises:
        MissingInput: the data set or the source model does not exist.
        IncompatibleSource: the source needs something that stock nnU-Net does not have.
    """

    def __init__(
        self,
        raw_dataset: str | Path | RawDataset,
        source: SourceModel | Sequence[SourceModel] | str | Path,
        configurations: str | Sequence[str] | None = None,
        plans_name: str = DEFAULT_PLANS,
        preprocessed_dataset_folder: str | Path | None = None,
    ) -> None:
        if not re.fullmatch(r"\w[\w+-]*", plans_name) or "__" in plans_name or plans_name.lower() in _TAKEN:
            raise ActiveError(f"The plans name {plans_name!r} cannot be a file's name here; use letters and digits.")
        self.plans_name = plans_name
        raw = raw_dataset if isinstance(raw_dataset, RawDataset) else Path(raw_dataset)
        self.folder = Path(preprocessed_dataset_folder or nnunet_paths.preprocessed_folder(raw.name))
        self.dataset = raw if isinstance(raw, RawDataset) else RawDataset(raw, read_pool_folders(self.folder))
        wanted = [configurations] if isinstance(configurations, str) else list(configurations or [])
        if isinstance(source, str | Path):
            self.sources = read_sources(source, wanted)
        else:
            self.sources = [source] if isinstance(source, SourceModel) else list(source)
        there = [source.configuration for source in self.sources]
        if wanted and sorted(wanted) != sorted(there):
            raise ActiveError(f"The source model is for {', '.join(there)}, not for {', '.join(wanted)}.")
        self.reports: dict[str, TransferReport] = {}
        self.notes: list[str] = []
        self._plans: dict | None = None

    @property
    def plans_file(self) -> Path:
        """``nnUNet_preprocessed/DatasetXXX/<plans_name>.json``."""
        return self.folder / f"{self.plans_name}.json"

    def plan(self) -> dict:
        """The content of the plans file, merged with an existing one; nothing is written.

        The source's weights are carried into the planned network once, to prove that the plans work.
        """
        if self._plans is None:
            # cases that are preprocessed, perhaps with an earlier version, keep their reader
            reader = reader_in_use(self.plans_file) or choose_reader(self.dataset, self.sources, self.notes)
            plans = merge_plans(self.plans_file, [self._plan_one(source, reader) for source in self.sources])
            for source in self.sources:
                self.reports[source.configuration] = self._try_transfer(source, plans)
            self._plans = plans
        return deepcopy(self._plans)

    def write(self) -> Path:
        """Write source networks, ``dataset.json``, ``dataset_fingerprint.json`` (unless it exists) and, last, the plans."""
        plans = self.plan()
        self.notes += what_is_replaced(self.plans_file, plans)
        for source in self.sources:
            folder = source_folder(self.folder, self.plans_name, source.configuration)
            if not _holds(folder, source, plans):
                save_source_model(source, folder)
        if not (self.folder / "dataset_fingerprint.json").is_file():
            # stock trainers copy this file, which says what the plans were made from
            write_json(self.folder / "dataset_fingerprint.json", self.sources[0].fingerprint or fingerprint_of(plans))
            self.notes.append(
                "dataset_fingerprint.json is the source's; to plan this data set with nnU-Net itself later, "
                "give nnUNetv2_plan_and_preprocess the flag --clean."
            )
        write_json(self.folder / "dataset.json", self.dataset.dataset_json)
        write_json(self.plans_file, plans)
        return self.plans_file

    def lines(self) -> list[str]:
        """Sentences about what was taken, matched, mapped and left out."""
        plans = self.plan()
        lines = []
        for source in self.sources:
            configured = plans["configurations"][source.configuration]
            schemes = zip(self.dataset.channel_names, configured["normalization_schemes"], strict=True)
            lines += [
                f"{source.configuration}: source model {source.plans.get('dataset_name', '?')}, fold {source.fold}, "
                f"{source.checkpoint}, trained with {source.trainer_name}.",
                *source.notes,
                *self.reports[source.configuration].lines(),
                f"Normalisation: {', '.join(f'{name} {scheme}' for name, scheme in schemes)}.",
                f"Images are resampled to the source's {_by(configured['spacing'])} mm; patch "
                f"{_by(configured['patch_size'])} voxels, batch size {configured['batch_size']}.",
            ]
        odd = self.dataset.warnings.get("dataset.json")
        return [*([odd] if odd else []), *lines, *self.notes]

    def summary(self) -> dict:
        """The same for scripts: plans file and, per configuration, the source and the mappings."""
        plans = self.plan()
        return {
            "plans": str(self.plans_file),
            "dataset": self.dataset.name,
            "configurations": {
                source.configuration: {
                    **plans["source_models"][source.configuration],
                    "folds_found": list(source.folds_found),
                    "head_trained": self.reports[source.configuration].head_trained,
                }
                for source in self.sources
            },
            "messages": self.lines(),
        }

    def _plan_one(self, source: SourceModel, reader: str) -> dict:
        """Plans with this source's configuration only."""
        manager = PlansManager(deepcopy(source.plans))
        configured = manager.get_configuration(source.configuration)
        _adopt_trainer_architecture(source, manager, configured)
        channels = map_channels(channel_names(source.dataset_json), self.dataset.channel_names)
        configuration = deepcopy(configured.configuration)
        if configuration["spacing"] is None:
            raise IncompatibleSource(
                f"{source.origin} was pre-trained without resampling, so it names no spacing to plan with; plan the data set with "
                f"nnU-Net (nnUNetv2_plan_and_preprocess), and name the encoder with nnunet_active init -m."
            )
        for key in ("inherits_from", "next_stage", "previous_stage"):
            configuration.pop(key, None)
        configuration["data_identifier"] = f"{self.plans_name}_{source.configuration}"
        if configured.preprocessor_class is None:
            self.notes.append(
                f"The source names the preprocessor {configured.preprocessor_name}, which nnU-Net does not have; "
                f"DefaultPreprocessor is used, so the images may be prepared differently from the source's."
            )
            configuration["preprocessor_name"] = "DefaultPreprocessor"
        statistics = map_normalisation(manager, configuration, channels, self.notes)
        _check_functions(configuration)
        if reader != source.plans.get("image_reader_writer"):
            self.notes.append(
                f"The source's images were read with {source.plans.get('image_reader_writer')}, the target's are read with {reader}; "
                f"check that both give the same orientation (overwrite_image_reader_writer in dataset.json names another reader)."
            )
        forward, backward = manager.transpose_forward, manager.transpose_backward
        if reader == NaturalImage2DIO.__name__ and forward[0] != 0:  # a flat picture has only one plane
            forward = backward = [0, 1, 2]
            self.notes.append(
                "The source's axes are in another order; those of the target's pictures stay as they are."
            )
        stock_labels = "label_manager" not in source.plans or manager.label_manager_class is None
        return {
            "dataset_name": self.dataset.name,
            "plans_name": self.plans_name,
            "original_median_spacing_after_transp": source.plans.get("original_median_spacing_after_transp"),
            "original_median_shape_after_transp": source.plans.get("original_median_shape_after_transp"),
            "image_reader_writer": reader,
            "transpose_forward": forward,
            "transpose_backward": backward,
            "configurations": {source.configuration: configuration},
            "experiment_planner_used": source.plans.get("experiment_planner_used", "ExperimentPlanner"),
            "label_manager": "LabelManager" if stock_labels else source.plans["label_manager"],
            "foreground_intensity_properties_per_channel": statistics,
            "source_models": {source.configuration: _provenance(source, channels)},
        }

    def _try_transfer(self, source: SourceModel, plans: dict) -> TransferReport:
        dataset_json = self.dataset.dataset_json
        try:
            network = build_network(plans, source.configuration, dataset_json)
        except MissingInput as error:
            raise IncompatibleSource(
                f"The network of {source.origin} cannot be built here ({error.__cause__}); install the package that it comes from, or "
                f"use another source model."
            ) from error
        return carry_over(network, source, plans, dataset_json)


def _adopt_trainer_architecture(source: SourceModel, manager: PlansManager, configured: ConfigurationManager) -> None:
    """Let a stock trainer that changes the architecture in place (batch norm) do so, so that the plans are true."""
    trainer = find_trainer_class(source.trainer_name)
    if trainer is None or trainer.build_network_architecture is nnUNetTrainer.build_network_architecture:
        return
    with contextlib.suppress(Exception):  # if it fails, carrying the weights over reports what does not fit
        trainer.build_network_architecture(manager, configured, 1, 2, enable_deep_supervision=False)


def _check_functions(configuration: dict) -> None:
    manager = ConfigurationManager(deepcopy(configuration))
    for kind in ("data", "seg", "probabilities"):
        try:
            getattr(manager, f"resampling_fn_{kind}")
        except (RuntimeError, KeyError) as error:
            raise IncompatibleSource(f"The source resamples with a function that nnU-Net lacks: {error}") from error


def _provenance(source: SourceModel, channels: ChannelMapping) -> dict:
    return {
        "dataset": source.plans.get("dataset_name"),
        "plans": source.plans.get("plans_name"),
        "configuration": source.configuration,
        "fold": source.fold,
        "checkpoint": source.checkpoint,
        "trainer": source.trainer_name,
        "weights": weights_digest(source.weights),
        "channels": {"matched": channels.kind, "source": list(channels.source), "indices": list(channels.indices)},
    }


def _holds(folder: Path, source: SourceModel, plans: dict) -> bool:
    """Whether the folder already holds this very source."""
    try:
        kept = read_source_model(folder, source.configuration)
    except ActiveError:
        return False
    same = replace(kept, origin="", weights={}, notes=(), folds_found=(), checkpoint="") == replace(
        source, origin="", weights={}, notes=(), folds_found=(), checkpoint=""
    )
    return same and weights_digest(kept.weights) == plans["source_models"][source.configuration]["weights"]


def _by(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)
