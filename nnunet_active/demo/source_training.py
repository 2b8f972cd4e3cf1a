"""Trains a tiny network on one data set with stock nnU-Net code, within a minute or two on a CPU.

It replaces the trained model that users bring along. The result is a stock model folder
``nnUNet_results/<dataset>/nnUNetTrainer__nnUNetPlans__2d`` whose checkpoint names the stock trainer.

Network and schedule are our choice for a CPU: a 2-D network learns more per minute than a 3-D one, and AdamW learns in a
few hundred steps what takes nnU-Net's own SGD schedule many more.
"""

from __future__ import annotations

import contextlib
import io
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as stock
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets
from tqdm import tqdm

from nnunet_active.nnunet.nnunet_paths import preprocessed_folder, raw_folder
from nnunet_active.util.atomic import copy_file, write_json
from nnunet_active.util.progress import bar_is_shown

PLANS_NAME = "nnUNetPlans"
CONFIGURATION = "2d"


@dataclass(frozen=True)
class Schedule:
    """Length and step size of a short training: ``epochs`` × ``iterations`` steps of AdamW, learning rate poly from ``lr``."""

    epochs: int = 8
    iterations: int = 90
    val_iterations: int = 4
    lr: float = 3e-3


@dataclass(frozen=True)
class TrainedModel:
    """A finished training: the stock model folder, wall time of the whole call and of one step (with its augmentation)."""

    folder: Path
    seconds: float
    seconds_per_iteration: float


def train_source(
    dataset: str,
    schedule: Schedule | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = True,
) -> TrainedModel:
    """Plan, preprocess and train fold 0 of ``dataset`` with the tiny network of :func:`tiny_plans`.

    Args:
        dataset: full name of a data set in ``nnUNet_raw`` with at least five labelled cases (nnU-Net's five folds).
        schedule: how long; the defaults of :class:`Schedule` fit the phantom.
        seed: for the network's first weights and all random draws in training. With ``nnUNet_n_proc_DA=0`` and one
            thread, the same seed gives the same network on the same machine.
        device: "cpu" or "cuda".
        progress: show a bar.
    """
    plan_and_preprocess(dataset)
    return train(dataset, schedule or Schedule(), seed=seed, device=device, progress=progress)


def tiny_plans(dataset: str, dataset_json: Mapping[str, Any], fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """Plans in nnU-Net's format for a small ``2d`` PlainConvUNet: no in-plane resampling beyond the median spacing.

    Spacing and shape are the medians of the fingerprint, the patch is the whole slice (rounded up as the pooling
    requires), each channel gets a z-score. Four stages with 16 to 64 features, 12 slices a batch.
    """
    spacing = np.median(np.array(fingerprint["spacings"]), axis=0)
    shape = np.median(np.array(fingerprint["shapes_after_crop"]), axis=0).astype(int)
    features = [16, 32, 64, 64]
    factor = 2 ** (len(features) - 1)
    patch = [int(-(-n // factor) * factor) for n in shape[1:]]
    n_channels = len(dataset_json["channel_names"])

    def resampling(is_seg: bool, order: int) -> dict[str, Any]:
        return {"is_seg": is_seg, "order": order, "order_z": 0, "force_separate_z": None}

    configuration = {
        "data_identifier": f"{PLANS_NAME}_{CONFIGURATION}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 12,
        "patch_size": patch,
        "median_image_size_in_voxels": [float(n) for n in shape[1:]],
        "spacing": [float(s) for s in spacing[1:]],
        "normalization_schemes": ["ZScoreNormalization"] * n_channels,
        "use_mask_for_norm": [False] * n_channels,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling(False, 3),
        "resampling_fn_seg_kwargs": resampling(True, 1),
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": resampling(False, 1),
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {
                "n_stages": len(features),
                "features_per_stage": features,
                "conv_op": "torch.nn.modules.conv.Conv2d",
                "kernel_sizes": [[3, 3]] * len(features),
                "strides": [[1, 1]] + [[2, 2]] * (len(features) - 1),
                "n_conv_per_stage": [2] * len(features),
                "n_conv_per_stage_decoder": [2] * (len(features) - 1),
                "conv_bias": True,
                "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
                "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": True,
    }
    return {
        "dataset_name": dataset,
        "plans_name": PLANS_NAME,
        "original_median_spacing_after_transp": [float(s) for s in spacing],
        "original_median_shape_after_transp": [int(n) for n in shape],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {CONFIGURATION: configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": fingerprint["foreground_intensity_properties_per_channel"],
    }


def plan_and_preprocess(dataset: str) -> Path:
    """Fingerprint, plans, labels and preprocessed cases, as nnU-Net's own command writes them; returns their folder.

    The stock preprocessor handles the cases one after another in this process: for small images that is faster than
    starting workers, and needs no importable main module.
    """
    raw = raw_folder(dataset)
    folder = preprocessed_folder(dataset)
    dataset_json = load_json(raw / "dataset.json")
    cases = get_filenames_of_train_images_and_targets(str(raw), dataset_json)
    fingerprint = _fingerprint(cases, len(dataset_json["channel_names"]))
    plans = tiny_plans(dataset, dataset_json, fingerprint)
    write_json(folder / "dataset.json", dataset_json)
    write_json(folder / "dataset_fingerprint.json", fingerprint)
    write_json(folder / f"{PLANS_NAME}.json", plans)

    plans_manager = PlansManager(plans)
    configuration = plans_manager.get_configuration(CONFIGURATION)
    preprocessor = configuration.preprocessor_class(verbose=False)
    (folder / configuration.data_identifier).mkdir(exist_ok=True)
    for identifier, case in cases.items():
        preprocessor.run_case_save(
            str(folder / configuration.data_identifier / identifier),
            case["images"],
            case["label"],
            plans_manager,
            configuration,
            dataset_json,
        )
        copy_file(case["label"], folder / "gt_segmentations" / Path(case["label"]).name)
    return folder


def train(
    dataset: str,
    schedule: Schedule,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = True,
) -> TrainedModel:
    """Train fold 0 of a planned and preprocessed data set.

    Split, loss, augmentation and checkpoints are nnU-Net's own; only length, optimizer and console output differ.
    nnU-Net's printed lines go to its log file in the fold's folder.
    """
    folder = preprocessed_folder(dataset)
    plans = load_json(folder / f"{PLANS_NAME}.json") | {"continue_training": False}
    _seed_everything(seed)
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        trainer = _ShortTrainer(plans, CONFIGURATION, 0, load_json(folder / "dataset.json"), torch.device(device))
        trainer.num_epochs = schedule.epochs
        trainer.num_iterations_per_epoch = schedule.iterations
        trainer.num_val_iterations_per_epoch = schedule.val_iterations
        trainer.initial_lr = schedule.lr
        trainer.initialize()
        with tqdm(
            total=schedule.epochs * schedule.iterations,
            desc=f"Training on {dataset}",
            unit="it",
            disable=not bar_is_shown(progress),
        ) as bar:
            trainer.bar = bar
            begin = time.perf_counter()
            trainer.run_training()
            end = time.perf_counter()
    return TrainedModel(
        folder=Path(trainer.output_folder_base),
        seconds=end - start,
        seconds_per_iteration=(end - begin) / (schedule.epochs * schedule.iterations),
    )


class _ShortTrainer(stock.nnUNetTrainer):
    """The stock trainer with AdamW and a progress bar."""

    bar: tqdm | None = None

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=self.initial_lr, weight_decay=self.weight_decay)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)

    def train_step(self, batch: dict) -> dict:
        output = super().train_step(batch)
        if self.bar is not None:
            self.bar.update()
        return output


# nnU-Net derives the output folder and the checkpoint's ``trainer_name`` from the class name; with the stock name, anybody
# can predict with the result.
_ShortTrainer.__name__ = _ShortTrainer.__qualname__ = "nnUNetTrainer"


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (nnU-Net's loaders and transforms draw from the global generator)
    torch.manual_seed(seed)


def _fingerprint(cases: Mapping[str, Mapping[str, Any]], n_channels: int) -> dict[str, Any]:
    """nnU-Net's data set fingerprint from its own analysis of each case."""
    analysed = [
        DatasetFingerprintExtractor.analyze_case(case["images"], case["label"], SimpleITKIO) for case in cases.values()
    ]
    shapes, spacings, intensities, _, relative_sizes = zip(*analysed, strict=True)
    properties = {}
    for i in range(n_channels):
        values = np.concatenate([per_case[i] for per_case in intensities])
        low, median, high = np.percentile(values, (0.5, 50.0, 99.5))
        properties[str(i)] = {
            "mean": float(values.mean()),
            "median": float(median),
            "std": float(values.std()),
            "min": float(values.min()),
            "max": float(values.max()),
            "percentile_99_5": float(high),
            "percentile_00_5": float(low),
        }
    return {
        "spacings": [[float(s) for s in spacing] for spacing in spacings],
        "shapes_after_crop": [[int(n) for n in shape] for shape in shapes],
        "foreground_intensity_properties_per_channel": properties,
        "median_relative_size_after_cropping": float(np.median(relative_sizes)),
    }
