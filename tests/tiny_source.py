"""A tiny source model: real nnU-Net networks with random weights, and plans for them, for tests of what is carried over."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from nnunet_active.models.source_model import SourceModel
from nnunet_active.nnunet.networks import build_network

GLIOMA = ("T1", "FLAIR", "T1ce")
TUMOUR = {"background": 0, "oedema": 1, "core": 2}


def dataset_json(channels=GLIOMA, labels=None, **more) -> dict:
    return {
        "channel_names": {str(i): name for i, name in enumerate(channels)},
        "labels": dict(TUMOUR if labels is None else labels),
        "numTraining": 2,
        "file_ending": ".nii.gz",
        **more,
    }


def architecture(dimension: int = 3, residual: bool = False) -> dict:
    blocks = {"n_blocks_per_stage": [1, 1, 1]} if residual else {"n_conv_per_stage": [1, 1, 1]}
    name = "ResidualEncoderUNet" if residual else "PlainConvUNet"
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
        "arch_kwargs": {
            "n_stages": 3,
            "features_per_stage": [4, 6, 8],
            "conv_op": f"torch.nn.modules.conv.Conv{dimension}d",
            "kernel_sizes": [[3] * dimension] * 3,
            "strides": [[1] * dimension, [2] * dimension, [2] * dimension],
            "n_conv_per_stage_decoder": [1, 1],
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimension}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
            **blocks,
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def configuration(name: str = "3d_fullres", channels: int = 3, residual: bool = False) -> dict:
    dimension = 2 if name == "2d" else 3
    resampling = {"order_z": 0, "force_separate_z": None}
    return {
        "data_identifier": f"nnUNetPlans_{name}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [16] * dimension,
        "median_image_size_in_voxels": [16.0] * dimension,
        "spacing": [1.5] * dimension,
        "normalization_schemes": ["ZScoreNormalization"] * channels,
        "use_mask_for_norm": [False] * channels,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, **resampling},
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, **resampling},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, **resampling},
        "architecture": architecture(dimension, residual),
        "batch_dice": False,
    }


def plans(names=("3d_fullres",), channels: int = 3, residual: bool = False) -> dict:
    return {
        "dataset_name": "Dataset900_Source",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [1.5, 1.5, 1.5],
        "original_median_shape_after_transp": [16, 16, 16],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {name: configuration(name, channels, residual) for name in names},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(i): {
                "max": 9.0 + i,
                "mean": 1.0 + i,
                "median": 1.0,
                "min": 0.0,
                "percentile_00_5": 0.5,
                "percentile_99_5": 8.0,
                "std": 2.0 + i,
            }
            for i in range(channels)
        },
    }


def random_network(plans: dict, name: str, dataset_json: dict, seed: int = 0, **kwargs) -> torch.nn.Module:
    """As nnU-Net builds it, but every parameter (norms and biases too) random, so that nothing is equal by chance."""
    network = build_network(plans, name, dataset_json, **kwargs).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3 + 0.05)
    return network


def source_model(channels=GLIOMA, labels=None, name="3d_fullres", residual=False, seed=0, **more) -> SourceModel:
    description = dataset_json(channels, labels, **more)
    planned = plans((name,), len(channels), residual)
    network = random_network(planned, name, description, seed)
    axes = (0, 1) if name == "2d" else (0, 1, 2)
    return SourceModel(
        plans=planned,
        dataset_json=description,
        fingerprint={"spacings": [[1.5, 1.5, 1.5]]},
        configuration=name,
        fold="0",
        weights=network.state_dict(),
        mirror_axes=axes,
        trainer_name="nnUNetTrainer",
        origin="tiny",
        folds_found=("0",),
    )


def write_trained(source: SourceModel, folder: Path, fold="0", file="checkpoint_final.pth", **changes) -> Path:
    """A trained model folder with the content that nnU-Net's own trainer writes, NumPy scalars and all."""
    (folder / f"fold_{fold}").mkdir(parents=True, exist_ok=True)
    for name, content in (
        ("plans", source.plans),
        ("dataset", source.dataset_json),
        ("dataset_fingerprint", source.fingerprint),
    ):
        (folder / f"{name}.json").write_text(json.dumps(content))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], 0.01, momentum=0.9)
    checkpoint = {
        "network_weights": source.weights,
        "optimizer_state": optimizer.state_dict(),
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float32(0.5), np.float64(0.25)], "epoch_start_timestamps": [1.5]},
        "_best_ema": np.float32(0.5),
        "current_epoch": 3,
        "init_args": {
            "plans": source.plans,
            "configuration": source.configuration,
            "fold": int(fold) if fold != "all" else fold,
            "dataset_json": source.dataset_json,
            "device": torch.device("cpu"),
        },
        "trainer_name": source.trainer_name,
        "inference_allowed_mirroring_axes": source.mirror_axes,
        **changes,
    }
    torch.save(checkpoint, folder / f"fold_{fold}" / file)
    return folder
